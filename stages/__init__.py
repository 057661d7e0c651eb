"""The pipeline: the modules here are what DVC runs and what a person runs, the folders what they share.

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

# Its threads spin while a stage imports; `fit.threads` sets as many as a fit is to have.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # which costs a request at the end of each run

# MLflow's own are 120 s and 7 retries, for each of many requests.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "15")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "1")
