"""Each stage on two Dask workers over TCP against one process: time, memory of a worker, and what is predicted."""

import resource
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import joblib
import numpy as np
import pandas as pd
from distributed import Client
from pyarrow import parquet
from sklearn.base import clone

from benchmarks.generate import generate_parts
from benchmarks.measure import Line, Usage
from benchmarks.scale import time_stage
from stages.model.estimators import find_regressor, round_coefficients
from stages.model.metrics import rmse
from stages.table.dictionary import read_dictionary
from stages.table.encoder import Encoder
from tests.conftest import Project, copy_project

STAGES = ["prepare", "linear", "ridge", "lasso", "xgboost", "lightgbm"]
BOOSTERS = ("xgboost", "lightgbm")
N_TREES, N_WORKERS, MEMORY = 100, 2, "3GB"
PARITY, MIDDLE, LARGE = 100, 1000, 6850  # times the rows: 146,000, 1.46 million and 10 million
PART = 50  # times the rows that one part holds


class Taken(NamedTuple):
    """What a stage took: its own process, and the most memory that one of the workers held, in bytes."""

    usage: Usage
    worker: int


@contextmanager
def start_cluster(project: Project) -> Iterator[str]:
    """A scheduler and workers of one thread, as processes in a project's folder; the address of the scheduler."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    processes: list[subprocess.Popen[bytes]] = []

    def start(module: str, *options: str) -> None:
        command = [sys.executable, "-m", f"distributed.cli.{module}", *options, "--no-dashboard"]
        nowhere = subprocess.DEVNULL
        processes.append(subprocess.Popen(command, cwd=project.root, env=project.env, stdout=nowhere, stderr=nowhere))

    with tempfile.TemporaryDirectory() as spill:
        try:
            start("dask_scheduler", "--host", address)
            for _ in range(N_WORKERS):
                limits = "--nthreads", "1", "--memory-limit", MEMORY, "--local-directory", spill
                start("dask_worker", address, "--host", "127.0.0.1", *limits)
            with Client(address, timeout=60) as client:
                client.wait_for_workers(N_WORKERS, timeout=60)
            yield address
        finally:
            for process in reversed(processes):
                process.terminate()
                process.wait()


def time_on_cluster(project: Project, stage: str) -> Taken:
    """A stage on new workers. Raises CalledProcessError if it fails."""
    with start_cluster(project) as address:
        project.set_params(cluster={"address": address})
        usage = time_stage(project, stage)
        with Client(address) as client:
            peaks = client.run(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    taken = Taken(usage, max(peaks.values()))
    print(f"bench: {stage} on {N_WORKERS} workers: {show(*taken)}", flush=True)
    return taken


def time_alone(project: Project, stage: str) -> Usage:
    """A stage in one process with as many threads."""
    project.set_params(cluster={"address": None})
    usage = time_stage(project, stage)
    print(f"bench: {stage} in one process: {show(usage)}", flush=True)
    return usage


def show(usage: Usage, worker: int = 0) -> str:
    held = f", {worker / 1e9:.1f} GB a worker" if worker else ""
    return f"{usage.seconds:.1f} s, {usage.peak / 1e9:.1f} GB{held}"


def make_parts(project: Project, factor: int) -> Path:
    """So many times the rows, as a folder of Parquet files, which the project is set to learn from."""
    folder = project.root / f"data/parts{factor}"
    dictionary = read_dictionary(str(project.root / "data/dictionary.yaml"))
    generate_parts(str(project.root / "data/raw/train.csv"), dictionary, factor, folder, -(-factor // PART))
    project.set_params(data={"path": f"data/{folder.name}"})
    return folder


def read(project: Project, name: str) -> pd.DataFrame:
    return pd.read_parquet(project.root / f"data/prepared/{name}.parquet")


def compare_encoder(project: Project) -> Line:
    """The encoder of the parts against one that is fitted on all rows at once."""
    rows, y = read(project, "rows_train"), read(project, "y_train")["target"].to_numpy()
    encoder = Encoder(joblib.load(project.root / "data/prepared/encoder.joblib").dictionary)
    same = np.array_equal(encoder.fit_transform(rows, y), read(project, "X_train").to_numpy())
    return Line(
        f"encoder, {len(y):,} training rows", "the same to the bit" if same else "DIFFERS", "", None, "the same"
    )


def compare_model(project: Project, name: str) -> Line:
    """A model that workers have fitted against the same estimator fitted here on the same encoded rows."""
    X, y = read(project, "X_train").to_numpy(), read(project, "y_train")["target"].to_numpy()
    X_test, y_test = read(project, "X_test").to_numpy(), read(project, "y_test")["target"].to_numpy()
    judged = joblib.load(project.root / f"models/{name}")["estimator"]
    alone = clone(judged).fit(X, y)
    round_coefficients(find_regressor(alone))
    predicted, expected = judged.predict(X_test), alone.predict(X_test)
    if name not in BOOSTERS:
        off = np.max(np.abs(predicted / expected - 1))
        return Line(f"{name}, {len(X_test):,} test rows", f"predictions {off:.1e} off", "in memory", None, "≤ 1e-8")
    errors = rmse(y_test, predicted), rmse(y_test, expected)
    what, figures = f"{name}, {len(X_test):,} test rows", [f"RMSE {error:,.0f}" for error in errors]
    return Line(what, figures[0], f"in memory {figures[1]}", errors[0] / errors[1], ".995 to 1.005")


def compare_results(project: Project, factor: int) -> list[Line]:
    make_parts(project, factor)
    for stage in STAGES:
        time_on_cluster(project, stage)
    return [compare_encoder(project), *(compare_model(project, name) for name in STAGES[1:])]


def compare_costs(project: Project, factor: int) -> tuple[list[Line], dict[str, Taken]]:
    """What each stage takes on workers, against one process; and the former for themselves."""
    folder = make_parts(project, factor)
    n_rows, lines, shared = factor * 1460, [], {stage: time_on_cluster(project, stage) for stage in STAGES}
    whole = folder.with_suffix(".parquet")
    parquet.write_table(parquet.read_table(folder), whole)
    project.set_params(data={"path": f"data/{whole.name}"})
    alone = {stage: time_alone(project, stage) for stage in STAGES}
    for stage in STAGES:
        ratio = shared[stage].usage.seconds / alone[stage].seconds
        lines.append(Line(f"{stage}, {n_rows:,} rows", show(*shared[stage]), show(alone[stage]), ratio, ""))
    total = [sum(taken.usage.seconds for taken in shared.values()), sum(usage.seconds for usage in alone.values())]
    most = max(taken.worker for taken in shared.values())
    lines.append(Line("all of them", f"{total[0]:.0f} s", f"{total[1]:.0f} s", total[0] / total[1], "≤ 1.2"))
    lines.append(Line("most that a worker held", f"{most / 1e9:.1f} GB", "", None, "≤ 2.5 GB"))
    return lines, shared


def compare_growth(project: Project, factor: int, before: dict[str, Taken], middle: int) -> list[Line]:
    """How much faster than the rows the time grew; not LightGBM, which needs all parts in memory."""
    make_parts(project, factor)
    lines = []
    for stage in STAGES[:-1]:
        taken = time_on_cluster(project, stage)
        ratio = taken.usage.seconds / before[stage].usage.seconds / (factor / middle)
        beside = f"{show(*before[stage])} for {middle * 1460:,}"
        lines.append(Line(f"{stage}, {factor * 1460:,} rows", show(*taken), beside, ratio, "≤ 1.2"))
    return lines


def measure_cluster(parity: int = PARITY, middle: int = MIDDLE, large: int = LARGE) -> list[Line]:
    """Parity, costs against one process, and growth, at so many times the rows; boosters draw no rows or columns."""
    with tempfile.TemporaryDirectory() as folder:
        project = copy_project(Path(folder, "project"))
        project.set_params(
            fit={"cv_folds": 0, "threads": N_WORKERS},
            xgboost={"n_estimators": N_TREES} | dict.fromkeys(["subsample", "colsample_bynode"], 1.0),
            lightgbm={"n_estimators": N_TREES} | dict.fromkeys(["subsample", "feature_fraction_bynode"], 1.0),
        )
        lines = compare_results(project, parity)
        costs, taken = compare_costs(project, middle)
        return [*lines, *costs, *compare_growth(project, large, taken, middle)]
