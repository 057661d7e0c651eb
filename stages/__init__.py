"""The stages of the pipeline, one module each, and the few modules they share."""

import gc

# A stage is a short process that mostly imports: with Python's default of a collection every 700 objects,
# that is a quarter of its time.
gc.set_threshold(100_000, 50, 50)
