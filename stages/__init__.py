"""The stages of the pipeline, one module each, and the few modules they share.

Whatever libraries read when they are imported is set here, before the first of them.
"""

import gc
import os
import platform
from pathlib import Path

# A stage is a short process that mostly imports: with Python's default of a collection every 700 objects,
# that is a quarter of its time.
gc.set_threshold(100_000, 50, 50)

# OpenBLAS picks its kernels by the processor, and each adds in another order: name those that all of today's have.
CPU_INFO = Path("/proc/cpuinfo")
if platform.machine() == "x86_64" and CPU_INFO.exists() and "avx2" in CPU_INFO.read_text():
    os.environ.setdefault("OPENBLAS_CORETYPE", "Haswell")
