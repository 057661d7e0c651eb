"""Found in place of the package by `python stages/train.py`: says how to start a stage, and ends."""

raise SystemExit("error: start it as a module, in the root of the repository: python -m stages.train ridge")
