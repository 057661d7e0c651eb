"""How long one house takes, in process and over REST, and how many a second a file takes."""

import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.dummy import DummyRegressor
from sklearn.pipeline import Pipeline

from benchmarks.measure import Line
from stages.predict import predict_file
from stages.registry.loading import open_model
from stages.table.encoder import Encoder
from stages.tracking.connection import connect

import mlflow  # isort: skip
import requests  # isort: skip

PRODUCTION = "models:/HousePricesPredictor/Production"
RAW = "data/raw/test.csv"
N_CALLS = 200
N_ROWS = 200_000


class NoEncoder(Encoder):
    """The same columns, and no work behind them."""

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        return np.zeros((len(rows), 1))


def time_by_turns(calls: Mapping[str, Callable[[], object]], n_calls: int) -> dict[str, float]:
    """Median milliseconds of each call; they take turns, so that a busy moment hits them alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(n_calls + 10):
        for name, call in calls.items():
            started = time.perf_counter()
            call()
            if turn >= 10:  # the first ones load things
                taken[name].append((time.perf_counter() - started) * 1000)
    return {name: statistics.median(times) for name, times in taken.items()}


def start_server(uri: str) -> tuple[subprocess.Popen[str], str]:
    """`python -m stages.serve` on a free port, and its address, once it answers."""
    command = [sys.executable, "-m", "stages.serve", "--port", "0", "--model", uri, "--trust"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    found = re.search(r"http://[\d.:]+", next(iter(process.stdout or []), ""))
    if not found:
        raise SystemExit(f"{uri} could not be served")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            if requests.get(f"{found.group()}/ping", timeout=5).ok:
                return process, found.group()
        except requests.ConnectionError:
            time.sleep(0.05)
    raise SystemExit(f"{uri} does not answer")


def save_no_model(folder: str, pipeline: Any) -> str:
    """A model file that takes the same rows and does nothing."""
    encoder = NoEncoder(pipeline["encoder"].dictionary)
    encoder.columns_ = pipeline["encoder"].columns_
    estimator = DummyRegressor(strategy="constant", constant=0).fit([[0]], [0])
    path = Path(folder, "no_model")
    joblib.dump(Pipeline([("encoder", encoder), ("estimator", estimator)]), path)
    return str(path)


def ask(session: requests.Session, url: str, body: str) -> None:
    headers = {"Content-Type": "application/json"}
    session.post(f"{url}/invocations", data=body, headers=headers, timeout=60).raise_for_status()


def measure_rest(pipeline: Any, row: pd.DataFrame) -> dict[str, float]:
    """Median milliseconds of one row through two servers, one with the model and one with none."""
    body = json.dumps({"dataframe_records": json.loads(row.to_json(orient="records"))})
    with tempfile.TemporaryDirectory() as folder, requests.Session() as session:
        servers = {}
        try:
            for name, uri in {"model": PRODUCTION, "none": save_no_model(folder, pipeline)}.items():
                servers[name] = start_server(uri)
            calls = {name: lambda url=url: ask(session, url, body) for name, (_, url) in servers.items()}
            return time_by_turns(calls, N_CALLS)
        finally:
            for process, _ in servers.values():
                process.terminate()
                process.wait()


def write_houses(path: Path, n_rows: int) -> None:
    """test.csv over and over, each row with an id and an area of its own."""
    rows = pd.read_csv(RAW, dtype=str, keep_default_na=False)
    for start in range(0, n_rows, len(rows)):
        part = rows.head(n_rows - start)
        ids = range(start + 1, start + 1 + len(part))
        part.assign(Id=ids, LotArea=[1500 + i % 40_000 for i in ids]).to_csv(
            path, mode="a", header=start == 0, index=False
        )


def measure_file(pipeline: Any, n_rows: int) -> tuple[float, float]:
    """Rows a second through predict_file, best of three, and bytes a second of reading the file alone."""
    import pyarrow.csv

    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "houses.csv"), Path(folder, "prices.csv")
        write_houses(source, n_rows)
        priced, read = [], []
        for _ in range(3):
            started = time.perf_counter()
            predict_file(pipeline, str(source), str(output), skip_bad=False)
            priced.append(time.perf_counter() - started)
            started = time.perf_counter()
            pyarrow.csv.read_csv(source)
            read.append(time.perf_counter() - started)
    return n_rows / min(priced), n_rows / min(read)


def measure_latency() -> list[Line]:
    connect()
    model, pipeline = mlflow.pyfunc.load_model(PRODUCTION), open_model("Production")
    schema = model.metadata.get_input_schema()
    types = dict(zip(schema.input_names(), schema.pandas_types(), strict=True))
    row = pd.read_csv(RAW, dtype=types, nrows=1, usecols=list(types))
    encoded = pipeline["encoder"].transform(row)
    here = time_by_turns(
        {
            "encoder": lambda: pipeline["encoder"].transform(row),
            "estimator": lambda: pipeline["estimator"].predict(encoded),
            "pipeline": lambda: pipeline.predict(row),
            "pyfunc": lambda: model.predict(row),
        },
        N_CALLS,
    )
    rest = measure_rest(pipeline, row)
    priced, read = measure_file(pipeline, N_ROWS)
    whole = here["pipeline"]
    return [
        Line("one row here, `mlflow.sklearn`", f"{whole:.1f} ms", "8 ms", whole / 8, "≤ 1"),
        Line("... of it the encoder", f"{here['encoder']:.1f} ms", "", here["encoder"] / whole, ""),
        Line("... of it the estimator", f"{here['estimator']:.1f} ms", "", here["estimator"] / whole, ""),
        Line("one row here, `mlflow.pyfunc`", f"{here['pyfunc']:.1f} ms", "8 ms", here["pyfunc"] / 8, "≤ 1"),
        Line(
            "one row over REST",
            f"{rest['model']:.1f} ms",
            f"no model behind: {rest['none']:.1f} ms",
            rest["model"] / rest["none"],
            "≤ 2",
        ),
        Line(
            f"a file of {N_ROWS:,} rows",
            f"{priced:,.0f} rows/s",
            f"pyarrow alone reads {read:,.0f} rows/s; asked are 100,000",
            priced / 100_000,
            "≥ 1",
        ),
    ]
