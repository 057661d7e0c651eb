"""Over 400 bad inputs (bad_inputs.py), each refused in one line, with nothing changed on disk.

The commands run in this process, in a folder of their own with a small project that has run; one of each kind runs as
a person would start it.
"""

import importlib
import os
import re
import shutil
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import joblib
import mlflow
import pandas as pd
import pytest
import yaml

from stages.model import training
from stages.model.auto import leave_out_auto
from stages.model.catalogue import MODELS
from stages.model.estimators import build_estimator, build_regressor
from stages.model.folds import draw_folds
from stages.predict import predict_file
from stages.shared.cli import InputError
from stages.shared.files import hash_file
from stages.shared.params import Blend, Data, Fit, Mlflow, Register, read_section
from stages.table.contract import read_table
from stages.table.dictionary import read_dictionary
from stages.tracking import connection, store
from tests import bad_inputs as bad
from tests.conftest import ROOT
from tests.rest import serving
from tests.server import PATIENCE

SECONDS = 30  # that any refusal may take, also on a slow machine
STORE = ["mlflow.db"]  # shows the run that failed
SCHEMAS = {"data": Data, "fit": Fit, "blend": Blend, "mlflow": Mlflow, "register": Register}


def snapshot(folder, but=()):
    """Every file, folder, pipe and link below a folder, and what it holds; locks may come."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        mode = path.lstat().st_mode
        if path.name.endswith(".lock") or path.name in but:
            continue
        found[str(path)] = os.readlink(path) if stat.S_ISLNK(mode) else hash_file(path) if stat.S_ISREG(mode) else mode
    return found


def check_message(text, secret="secret"):
    """One line, or a heading that says how many faults there are, and a line for each."""
    first, *others = text.splitlines()
    if others:
        assert int(re.search(r"(\d+) fault\(s\)", first)[1]) == len(others), text[:1000]
    assert all(0 < len(line) <= 1000 for line in (first, *others)), text[:2000]
    assert "Traceback" not in text
    assert secret not in text
    text.encode()  # can be printed


def refuse(call, folder=".", but=()):
    """Run what must raise InputError, soon and without a trace (`but` for some names); returns its message."""
    before, started = snapshot(folder, but), time.monotonic()
    with pytest.raises(InputError) as caught:
        call()
    assert time.monotonic() - started < SECONDS
    check_message(str(caught.value))
    assert snapshot(folder, but) == before
    return str(caught.value)


@pytest.fixture(scope="session")
def table():
    """The first houses, as text; the 198th is the first with a pool."""
    read = pd.read_csv(ROOT / "data/raw/train.csv", dtype=str, keep_default_na=False, na_values=["NA"])
    return read.head(200)


@pytest.fixture(scope="session")
def ridge(dictionary, houses, params):
    """A fitted pipeline from raw rows to prices."""
    from sklearn.pipeline import Pipeline

    from stages.table.encoder import Encoder

    regressor = build_regressor("ridge", leave_out_auto("ridge", params["ridge"]), 42, 1)
    estimator = build_estimator(regressor, MODELS["ridge"], log_target=True)
    return Pipeline([("encoder", Encoder(dictionary)), ("estimator", estimator)]).fit(houses, houses["SalePrice"])


def settle(patch, folder):
    """This process in another folder, as if the repository were there."""
    patch.chdir(folder)
    patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
    patch.setattr(store, "ROOT", folder)
    for module in (connection, store):
        patch.setattr(module, "OWN_DATABASE", folder / "mlflow.db")


class Here(Executor):
    """What a stage does in a process aside, in this one, whose threads forbid a fork."""

    def submit(self, function, /, *arguments):
        with ThreadPoolExecutor(1) as thread:  # which is waited for
            return thread.submit(function, *arguments)


def run(module, *arguments):
    """A command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *arguments])
        for stage in ("train", "blend", "register", "model.training"):
            patch.setattr(f"stages.{stage}.start_aside", Here)
        training.fit_model.cache_clear()
        importlib.import_module(f"stages.{module}").main()


@pytest.fixture(scope="session")
def finished(tmp_path_factory, table):
    """A small project in which every stage has run, in this process."""
    folder = tmp_path_factory.mktemp("bad") / "project"
    for name in ("params.yaml", "dvc.yaml", "data/dictionary.yaml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "data/raw").mkdir()
    table.to_csv(folder / "data/raw/train.csv", index=False, na_rep="NA")
    content = yaml.safe_load((folder / "params.yaml").read_text())
    content["fit"]["cv_folds"] = 0
    content["register"]["min_test_r2"] = -10
    (folder / "params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.MonkeyPatch.context() as patch:
        settle(patch, folder)
        run("prepare")
        for name in ("ridge", "decision_tree"):
            run("train", name)
        run("blend", "--models", "ridge", "decision_tree")
        run("champion", "--models", "ridge", "decision_tree")
        run("register")
        outs = [
            {"path": f"models/{n}", "md5": hash_file(f"models/{n}")}
            for n in ("ridge", "foreign", "decision_tree")
            if Path("models", n).exists()
        ]
        joblib.dump({"a": 1}, "models/foreign")
        outs.append({"path": "models/foreign", "md5": hash_file("models/foreign")})
        joblib.dump({"b": 1}, "models/unknown")
        Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"train": {"outs": outs}}}))
        for name in ("houses.csv", "q.rejects.csv", "w.marks.csv"):
            table.drop(columns="SalePrice").to_csv(name, index=False, na_rep="NA")
        for name, content in {**bad.WITHOUT_FEATURES, "bare.yaml": "target: y\nid: Id\n"}.items():
            Path(name).write_text(content)
        bad.make_models(Path("odd"))
        bad.make_places(Path())
        os.mkfifo("fifo.csv")
        Path("folder.csv").mkdir()
        Path("link.csv").symlink_to("houses.csv")
        Path("hard.csv").hardlink_to("houses.csv")
    return folder


@pytest.fixture
def home(finished, tmp_path, monkeypatch):
    """This process in a copy of the small project."""
    folder = tmp_path / "project"
    subprocess.run(["cp", "-a", str(finished), str(folder)], check=True)
    settle(monkeypatch, folder)
    return folder


@pytest.fixture
def doors(dictionary, ridge):
    """Who reads a table: the one who learns from it, and the one who prices it."""
    return {
        "learn": lambda path: read_table(path, dictionary),
        "price": lambda path: predict_file(ridge, path, "out.csv", skip_bad=False),
    }


def write(path, content, table):
    made = content(table) if callable(content) else content
    Path(path).write_bytes(made.encode() if isinstance(made, str) else made)


RULES = yaml.safe_load((ROOT / "data/dictionary.yaml").read_text())["columns"]
CELLS = [("learn", *case) for case in [*bad.PRICED_CELLS, *bad.LEARNED_CELLS]]
CELLS += [("learn", name, bad.break_rule(column)) for name, column in RULES.items() if len(column) > 1]
CELLS += [("price", *case) for case in bad.PRICED_CELLS]


@pytest.mark.parametrize(("door", "column", "value"), CELLS)
def test_a_cell_that_breaks_a_rule(doors, table, tmp_path, monkeypatch, door, column, value):
    monkeypatch.chdir(tmp_path)
    changed = table.copy()
    changed.loc[3, column] = value
    write("houses.csv", bad.as_csv, changed)
    assert f"{column}: " in refuse(lambda: doors[door]("houses.csv"))


FILES = [(door, name, "csv") for door in ("learn", "price") for name in bad.CSV_FILES]
FILES += [(door, name, "parquet") for door in ("learn", "price") for name in bad.PARQUET_FILES]
FILES += [("learn", name, "parquet") for name in bad.LEARNED_PARQUET]


@pytest.mark.parametrize(("door", "name", "suffix"), FILES)
def test_a_file_that_is_no_such_table(doors, table, tmp_path, monkeypatch, door, name, suffix):
    monkeypatch.chdir(tmp_path)
    tables = bad.CSV_FILES if suffix == "csv" else bad.PARQUET_FILES | bad.LEARNED_PARQUET
    write(f"houses.{suffix}", tables[name], table)
    assert f"houses.{suffix}: " in refuse(lambda: doors[door](f"houses.{suffix}"))


@pytest.mark.parametrize("place", bad.PLACES)
def test_a_place_without_a_table_or_dictionary(doors, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    bad.make_places(tmp_path)
    refuse(lambda: doors["learn"](place))
    refuse(lambda: read_dictionary(place))


YAMLS = {**bad.YAML_FILES, **bad.DICTIONARIES}
YAMLS |= {f"column {text:.60}": f"{bad.HEAD}  n: {text}\n" for text in bad.COLUMNS}
YAMLS |= {f"derived {text}": f"{bad.HEAD}derived:\n  z: {text}\n" for text in bad.FORMULAS}


@pytest.mark.parametrize("name", YAMLS)
def test_a_dictionary_that_is_none(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write("dictionary.yaml", YAMLS[name], None)
    assert "dictionary.yaml" in refuse(lambda: read_dictionary("dictionary.yaml"))


@pytest.mark.parametrize("name", bad.YAML_FILES)
def test_a_params_file_that_is_none(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    write("params.yaml", bad.YAML_FILES[name], None)
    assert "params.yaml" in refuse(lambda: read_section(Data))


SETTINGS = [(section, values) for section, listed in bad.PARAMS.items() for values in listed]
SETTINGS += [(section, value) for section in bad.PARAMS for value in bad.SECTIONS]


@pytest.mark.parametrize(("section", "values"), SETTINGS, ids=lambda value: f"{value}"[:60])
def test_a_setting_that_is_not_allowed(tmp_path, monkeypatch, params, section, values):
    monkeypatch.chdir(tmp_path)
    changed = {**params[section], **values} if isinstance(values, dict) else values
    write_params({**params, section: changed})
    said = refuse(lambda: read_section(SCHEMAS[section]))
    assert "params.yaml: " in said
    assert section in said


def test_a_setting_that_stands_twice(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "params.yaml").read_text()
    Path("params.yaml").write_text(text.replace("  test_size: 0.2\n", "  test_size: 0.2\n  test_size: 0.3\n"))
    assert "'test_size' stands twice" in refuse(lambda: read_section(Data))


def write_params(content):
    limit = sys.get_int_max_str_digits()
    Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert sys.get_int_max_str_digits() == limit


LEARNERS = [(name, values) for name, listed in bad.HYPERPARAMETERS.items() for values in listed]


@pytest.mark.parametrize(("name", "values"), LEARNERS, ids=lambda value: f"{value}"[:60])
def test_a_hyperparameter_that_its_class_does_not_take(tmp_path, monkeypatch, capfd, params, name, values):
    monkeypatch.chdir(tmp_path)
    said = refuse(lambda: build_regressor(name, {**leave_out_auto(name, params[name]), **values}, 42, 1))
    assert f"params.yaml: {name}" in said
    assert capfd.readouterr().err == ""


LINES = [(module, arguments) for module, listed in bad.COMMANDS.items() for arguments in listed]


@pytest.mark.parametrize(("module", "arguments"), LINES, ids=lambda value: ascii(value)[:80])
def test_a_command_line(home, module, arguments):
    refuse(lambda: run(module, *arguments))


CHANGES = [
    ("prepare", {"data": {"path": "a" * 5000}}),
    ("prepare", {"data": {"path": "fifo"}}),
    ("prepare", {"data": {"path": "/dev/zero"}}),
    ("prepare", {"data": {"path": "s3://bucket/x.csv"}}),
    ("prepare", {"data": {"dictionary": "loop.csv"}}),
    ("prepare", {"data": {"dictionary": "/dev/zero"}}),
    ("prepare", {"data": {"target": "Id"}}),
    ("prepare", {"data": {"target": "Street"}}),
    ("prepare", {"data": {"target": "Nothing"}}),
    *(("prepare", {"data": {"path": name, "dictionary": "bare.yaml", "target": "y"}}) for name in bad.WITHOUT_FEATURES),
    ("prepare", {"data": {"test_size": 0.001}}),
    ("prepare", {"data": {"test_size": 0.9999}}),
    ("train ridge", {"fit": {"cv_folds": 100_000}}),
    ("train ridge", {"fit": {"threads": 1_000_000}}),
    ("train ridge", {"ridge": {"alpha": 10**400}}),
    ("train ridge", {"ridge": {"solver": "lbfgs"}}),
    ("train ridge", {"ridge": None}),
    ("train xgboost", {"xgboost": {"learning_rate": 1e10}}),
    ("blend --models ridge decision_tree", {"fit": {"cv_folds": 5}}),
    ("champion --models ridge decision_tree", {"register": {"metric": "beauty"}}),
    ("champion --models ridge decision_tree", {"register": {"metric": "model"}}),
    ("champion --models ridge decision_tree", {"register": {"metric": "cv_rmsle"}}),
    ("register", {"register": {"promote": "maybe"}}),
    ("register", {"register": {"metric": "beauty"}}),
    ("tune ridge", {"ridge": None}),
    ("tune ridge", {"fit": {"cv_folds": 100_000}}),
]


@pytest.mark.parametrize(("command", "changes"), CHANGES, ids=lambda value: f"{value}"[:80])
def test_a_stage_with_a_setting_that_does_not_fit_the_table(home, command, changes):
    content = yaml.safe_load(Path("params.yaml").read_text())
    for section, values in changes.items():
        content[section] = {**content[section], **values} if values else None
    write_params(content)
    refuse(lambda: run(*command.split()), but=STORE)


LOST = {
    "prepare": ["params.yaml", "data/raw/train.csv", "data/dictionary.yaml"],
    "train ridge": ["params.yaml", "data/prepared", "data/prepared/encoder.joblib", "data/prepared/X_train.parquet"],
    "blend --models ridge decision_tree": ["data/prepared", "models/ridge", "params.yaml"],
    "champion --models ridge decision_tree": [
        "metrics/ridge.json",
        "models/blend",
        "scores/models/ridge",
        "scores/blend",
    ],
    "register": ["metrics/champion.json", "models/champion", "metrics/ridge.json", "dvc.yaml"],
    "tune ridge": ["params.yaml", "data/prepared"],
}
LOSSES = [(command, path, how) for command, paths in LOST.items() for path in paths for how in ("gone", "spoiled")]


@pytest.mark.parametrize(("command", "path", "how"), LOSSES)
def test_a_stage_whose_input_is_gone_or_no_longer_what_it_was(home, command, path, how):
    if Path(path).is_dir():
        shutil.rmtree(path)
        if how == "spoiled":
            Path(path).write_bytes(b"\0rubbish: [")
    elif how == "gone":
        Path(path).unlink()
    else:
        Path(path).write_bytes(b"\0rubbish: [")
    refuse(lambda: run(*command.split()), but=STORE)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """This process in a folder with nothing but settings and odd files."""
    settle(monkeypatch, tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    bad.make_places(tmp_path)
    monkeypatch.setattr(connection, "OWN_DATABASE", tmp_path / "another.db")
    monkeypatch.setattr(connection, "PATIENCE", 2)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return tmp_path


@pytest.mark.parametrize("uri", bad.URIS, ids=lambda value: ascii(value)[:60])
def test_an_address_without_a_store(place, monkeypatch, uri):
    monkeypatch.setattr(connection, "find_uri", lambda: uri)
    monkeypatch.setattr("stages.tracking.store.find_uri", lambda: uri)
    refuse(connection.connect)


@pytest.fixture(scope="session")
def database(finished):
    return (finished / "mlflow.db").read_bytes()


def make_database(path, *statements):
    with closing(sqlite3.connect(path)) as connected:
        for statement in statements:
            connected.execute(statement)
        connected.commit()


def change_database(*statements):
    def make(path, database):
        path.write_bytes(database)
        make_database(path, *statements)

    return make


DATABASES = {
    "of something else": lambda path, _: make_database(
        path, "CREATE TABLE sales (a INT)", "INSERT INTO sales VALUES (1)"
    ),
    "with an experiments of something else": lambda path, _: make_database(path, "CREATE TABLE experiments (a INT)"),
    "with rows of something else": lambda path, _: make_database(
        path, "CREATE TABLE experiments (a INT)", "INSERT INTO experiments VALUES (1)"
    ),
    "truncated": lambda path, database: path.write_bytes(database[: len(database) // 2]),
    "its header alone": lambda path, database: path.write_bytes(database[:100]),
    "its start zeroed": lambda path, database: path.write_bytes(bytes(512) + database[512:]),
    "its middle rubbish": lambda path, database: path.write_bytes(
        database[:4096] + b"\xa5" * 200_000 + database[204_096:]
    ),
    "text": lambda path, _: path.write_bytes(b"hello, this is no database\n" * 100),
    "a version from the future": change_database("UPDATE alembic_version SET version_num = 'ffffffffffff'"),
    "no version": change_database("DELETE FROM alembic_version"),
    "without runs": change_database("DROP TABLE runs"),
    "without experiment tags": change_database("DROP TABLE experiment_tags"),
    "a deleted experiment": change_database("UPDATE experiments SET lifecycle_stage = 'deleted'"),
    "a view": lambda path, _: make_database(path, "CREATE VIEW experiments AS SELECT 1"),
}


@pytest.mark.parametrize("name", DATABASES)
def test_a_file_that_is_no_store(place, database, monkeypatch, name):
    DATABASES[name](place / "mlflow.db", database)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    assert "mlflow.db" in refuse(connection.connect)


def test_a_database_that_somebody_made_is_never_removed(place, monkeypatch):
    """Not even in the place of the project's own."""
    monkeypatch.setattr(connection, "OWN_DATABASE", place / "mlflow.db")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    make_database(place / "mlflow.db", "CREATE TABLE metrics (mine INT)", "INSERT INTO metrics VALUES (1)")
    refuse(connection.connect)


def test_an_empty_file_that_somebody_made_is_never_removed(place, monkeypatch):
    """It may become a store: what counts is that the file stays the same file."""
    (place / "mlflow.db").touch()
    number = (place / "mlflow.db").stat().st_ino
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{place}/mlflow.db")
    with suppress(InputError):
        connection.connect()
    assert (place / "mlflow.db").stat().st_ino == number


def answer(status, body=b"", kind="application/json"):
    head = f"HTTP/1.1 {status} x\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


HEALTHY = answer(200, b"OK", "text/plain")
SERVERS = {  # what is said to /health, and to any other request; None hangs, a list drips
    "hangs": (None, None),
    "drips": ([b"H"] * 1000, None),
    "drips a head": ([b"HTTP/1.1 200 OK\r\n", *([b"X: y\r\n"] * 1000)], None),
    "drips a body": ([b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *([b"x"] * 1000)], None),
    "closes": (b"", None),
    "speaks another language": (b"SSH-2.0-OpenSSH_9.6\r\n", None),
    "answers 500": (answer(500), None),
    "answers 503": (answer(503, b"<html>busy</html>", "text/html"), None),
    "is healthy and hangs": (HEALTHY, None),
    "is healthy and drips": (HEALTHY, [b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", *([b"x"] * 1000)]),
    "is healthy and closes": (HEALTHY, b""),
    "is healthy and answers 500": (HEALTHY, answer(500, b"{}")),
    "is healthy and answers 403": (HEALTHY, answer(403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}')),
    "is healthy and answers 401": (HEALTHY, answer(401, b"not you", "text/plain")),
    "is healthy and answers 302": (HEALTHY, answer(302)),
    "is healthy and answers 404": (HEALTHY, answer(404, b"<html>" + b"x" * 5000, "text/html")),
    "is healthy and answers HTML": (HEALTHY, answer(200, b"<html>hello</html>", "text/html")),
    "is healthy and answers []": (HEALTHY, answer(200, b"[]")),
    "is healthy and answers 5": (HEALTHY, answer(200, b"5")),
    "is healthy and answers {}": (HEALTHY, answer(200, b"{}")),
    "is healthy and answers nothing": (HEALTHY, answer(200)),
    "is healthy and answers rubbish": (HEALTHY, answer(200, b'{"experiment": {"experiment_id": {"a": []}}}')),
    "is healthy and answers half": (HEALTHY, answer(200, b'{"experiment": ')),
    "is healthy and answers bytes": (HEALTHY, answer(200, b"\xff\xfe\0")),
}


def respond(client, health, found, other, over):
    with suppress(OSError), client:
        asked = client.recv(65536)
        said = health if b"/health" in asked else found if b"get-by-name" in asked else other
        if said is None:
            over.wait()
            return
        for piece in said if isinstance(said, list) else [said]:
            client.sendall(piece)
            if isinstance(said, list) and over.wait(0.2):
                return


@contextmanager
def listening(health, other, found=None):
    """The port of a server on this machine that answers in its own way, until the block ends."""
    over, threads = threading.Event(), []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept():
            with suppress(OSError):
                while not over.is_set():
                    client, _ = server.accept()
                    threads.append(threading.Thread(target=respond, args=(client, health, found or other, other, over)))
                    threads[-1].start()

        threads.append(threading.Thread(target=accept))
        threads[0].start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            server.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_that_is_no_store(place, monkeypatch, name):
    with listening(*SERVERS[name]) as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        assert f"127.0.0.1:{port}" in refuse(connection.connect)


def test_a_password_in_the_address_is_refused_and_not_shown(place, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://a:secret@127.0.0.1:5000")
    said = refuse(connection.connect)
    assert "MLFLOW_TRACKING_PASSWORD" in said
    assert "secret" not in said


FOUND = answer(200, b'{"experiment": {"experiment_id": "1", "name": "x", "lifecycle_stage": "active"}}')
REFUSALS = {
    "403": answer(403, b'{"error_code": "PERMISSION_DENIED", "message": "no"}'),
    "500": answer(500, b"{}"),
    "HTML": answer(200, b"<html>hello</html>", "text/html"),
    "[]": answer(200, b"[]"),
    "{}": answer(200, b"{}"),
    "half": answer(200, b'{"run": '),
    "nothing": b"",
}
STORED = ["train ridge", "register", "predict houses.csv --output out.csv", "tune ridge --trials 1", "history list"]
STORED += ["history show 1", "history rollback", "serve --port 0"]


LONELY = {("{}", "history list")}  # a store with nothing in it may say so


@pytest.mark.parametrize("command", STORED)
@pytest.mark.parametrize("name", REFUSALS)
def test_a_server_that_finds_the_experiment_and_then_refuses(place, home, monkeypatch, capsys, command, name):
    if (name, command) in LONELY:
        return
    with listening(HEALTHY, REFUSALS[name], FOUND) as port:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "a")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "secret")
        refuse(lambda: run(*command.split()), but=[*STORE, "optuna.db"])
    assert "secret" not in "".join(capsys.readouterr())
    assert "secret" not in mlflow.get_tracking_uri()


@pytest.fixture(scope="session")
def server(ridge):
    with serving(ridge) as (session, address):
        yield session, address


@pytest.fixture(scope="session")
def record(houses, ridge):
    row = houses.iloc[0][list(ridge["encoder"].columns_)]
    return {name: None if pd.isna(value) else value for name, value in row.items()}


JSON = "application/json"
CSV = "text/csv"


@pytest.fixture
def refuse_request(server):
    """Sends what must be answered with 4xx and one line, soon; a good request is answered as before."""
    session, address = server

    def send(body, kind=JSON, method="POST", path="/invocations"):
        started = time.monotonic()
        headers = {"Content-Type": kind.encode()} if kind else {}
        answered = session.request(method, f"{address}{path}", data=body, headers=headers, timeout=SECONDS)
        assert time.monotonic() - started < SECONDS
        assert 400 <= answered.status_code < 500, answered.text[:500]
        assert list(answered.json()) == ["error"]
        said = answered.json()["error"]
        assert len(said) <= 500
        assert len(said.splitlines()) == 1
        assert "Traceback" not in said
        assert session.get(f"{address}/ping", timeout=SECONDS).status_code == 200
        return said

    return send


def dump(row):
    import json

    return json.dumps({"dataframe_records": [row]}).encode()


@pytest.mark.parametrize(("column", "value"), bad.JSON_CELLS, ids=lambda value: f"{value}"[:40])
def test_a_json_value(refuse_request, record, column, value):
    assert column in refuse_request(dump({**record, column: value}))


@pytest.mark.parametrize("token", bad.TOKENS)
def test_a_json_token(refuse_request, record, token):
    refuse_request(dump({**record, "LotArea": 12321}).replace(b"12321", token.encode()))


@pytest.mark.parametrize("name", bad.JSON_BODIES)
def test_a_json_body(refuse_request, name):
    refuse_request(bad.JSON_BODIES[name])


@pytest.mark.parametrize("column", ["GrLivArea", "Street", "MSSubClass"])
def test_a_json_row_without_a_column(refuse_request, record, column):
    assert column in refuse_request(dump({name: value for name, value in record.items() if name != column}))


@pytest.mark.parametrize(("column", "value"), [case for case in bad.PRICED_CELLS if case[0] != "Id"])
def test_a_csv_cell(refuse_request, table, column, value):
    changed = table.head(5).copy()
    changed.loc[3, column] = value
    assert f"{column}: " in refuse_request(bad.as_csv(changed).encode(), CSV)


BODIES = {name: content for name, content in {**bad.CSV_FILES, **bad.CSV_BODIES}.items() if name != "the id missing"}


@pytest.mark.parametrize("name", BODIES)  # a request needs no ids
def test_a_csv_body(refuse_request, table, name):
    content = BODIES[name]
    made = content(table.head(20)) if callable(content) else content
    refuse_request(made.encode() if isinstance(made, str) else made, CSV)


@pytest.mark.parametrize("kind", bad.CONTENT_TYPES)
def test_a_content_type(refuse_request, record, kind):
    assert "content type" in refuse_request(dump(record), kind)


@pytest.mark.parametrize(("method", "path"), bad.ADDRESSES, ids=lambda value: value[:20])
def test_an_address(refuse_request, record, method, path):
    refuse_request(dump(record), method=method, path=path)


PROCESSES = {
    "a table": ("prepare", {"data": {"path": "fifo"}}),
    "a dictionary": ("prepare", {"data": {"dictionary": "loop.csv"}}),
    "params": ("train ridge", {"fit": {"cv_folds": 100_000}}),
    "a hyperparameter": ("train ridge", {"ridge": {"alpha": 10**400}}),
    "a model": ("train nothing", {}),
    "members": ("blend --models nothing", {}),
    "candidates": ("champion --models nothing", {}),
    "a metric": ("register", {"register": {"metric": 5}}),
    "an input": ("predict q.rejects.csv --output q.csv --skip-bad", {}),
    "a model file": ("predict houses.csv --output out.csv --model models/unknown", {}),
    "a host": ("serve --host ", {}),
    "trials": ("tune ridge --trials 0", {}),
    "a version": ("history show 99", {}),
    "a store": ("history list", {"store": "http://a:secret@[::1"}),
    "a foreign store": ("history list", {"store": "sqlite:///q.rejects.csv"}),
}


@pytest.mark.parametrize("name", PROCESSES)
def test_one_of_each_kind_as_a_person_would_start_it(home, name):
    command, changes = PROCESSES[name]
    address = changes.get("store", f"sqlite:///{home}/mlflow.db")
    content = yaml.safe_load(Path("params.yaml").read_text())
    write_params({key: {**value, **changes.get(key, {})} for key, value in content.items()})
    before = snapshot(home)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": address}
    line = [sys.executable, "-m", *f"stages.{command}".split(" ")]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    check_message(done.stderr)
    assert snapshot(home) == before


STUDIES = {"rubbish": b"hello " * 1000, "a header": b"SQLite format 3\0", "a picture": b"\x89PNG" + bytes(5000)}


@pytest.mark.parametrize("name", STUDIES)
def test_a_search_that_cannot_be_read(home, name):
    Path("optuna.db").write_bytes(STUDIES[name])
    assert "optuna.db" in refuse(lambda: run("tune", "ridge", "--trials", "1"))


def test_more_folds_than_rows(params, tmp_path):
    fit = Fit(**{**params["fit"], "cv_folds": 20})
    refuse(lambda: list(draw_folds(10, fit)), tmp_path)


@pytest.fixture
def stranger(home):
    """A version of the registered model that somebody put into Production by hand: a pickle from a run of theirs."""
    mlflow.set_tracking_uri(f"sqlite:///{home}/mlflow.db")
    client = mlflow.MlflowClient()
    begun = client.create_run(client.get_experiment_by_name("House-Prices-Regression").experiment_id)
    client.set_terminated(begun.info.run_id, "FINISHED")
    source = (home / "odd/pickle").as_uri()
    version = client.create_model_version("HousePricesPredictor", source, begun.info.run_id).version
    with pytest.warns(FutureWarning):
        client.transition_model_version_stage(
            "HousePricesPredictor", version, "Production", archive_existing_versions=True
        )
    return begun.info.run_id, version


@pytest.mark.parametrize("command", ["predict houses.csv --output out.csv", "serve --port 0", "history show 2"])
def test_a_strangers_version_in_production(home, stranger, command):
    refuse(lambda: run(*command.split()), but=["registered_model_meta"])  # MLflow's own note


def test_a_strangers_run_has_no_way_back_and_its_version_no_promotion(home, stranger, capsys):
    refuse(lambda: run("history", "show", stranger[0]))
    run("history", "list")
    assert "←" not in capsys.readouterr().out
    run("register")
    assert "version 1 → Production" in capsys.readouterr().out
    assert not Path("pwned").exists()


def test_a_file_named_production_is_not_the_model_in_production(home):
    Path("Production").write_bytes(Path("odd/pickle/model.pkl").read_bytes())
    run("predict", "houses.csv", "--output", "out.csv")
    assert len(pd.read_csv("out.csv")) == 200
    assert not Path("pwned").exists()


GOOD_FILES = {
    "a mark of UTF-8": lambda table: b"\xef\xbb\xbf" + bad.as_csv(table).encode(),
    "lines of Windows": lambda table: bad.as_csv(table).replace("\n", "\r\n"),
    "quotes": lambda table: table.to_csv(index=False, na_rep="NA", quoting=1),
    "nothing for what is missing": lambda table: table.to_csv(index=False, na_rep=""),
    "a trailing comma in every line": lambda table: bad.as_csv(table).replace("\n", ",\n"),
    "columns in another order": lambda table: bad.as_csv(table[table.columns[::-1]]),
    "a column more": lambda table: bad.as_csv(table.assign(Café="é\n,")),
    "no end of line": lambda table: bad.as_csv(table).rstrip("\n"),
}


@pytest.mark.parametrize("name", GOOD_FILES)
def test_a_good_table_in_another_dress_is_read_as_before(doors, table, tmp_path, monkeypatch, server, name):
    monkeypatch.chdir(tmp_path)
    write("plain.csv", bad.as_csv, table)
    write("dressed.csv", GOOD_FILES[name], table)
    found = []
    for path in ("plain.csv", "dressed.csv"):
        doors["price"](path)
        body = Path(path).read_bytes()
        asked = server[0].post(f"{server[1]}/invocations", body, headers={"Content-Type": "Text/CSV; charset=utf-8"})
        found.append((doors["learn"](path), pd.read_csv("out.csv"), asked.json()["predictions"]))
    pd.testing.assert_frame_equal(found[0][0], found[1][0])
    pd.testing.assert_frame_equal(found[0][1], found[1][1])
    assert found[0][2] == found[1][2]
    assert found[0][2] == pytest.approx(found[0][1]["SalePrice"].tolist(), abs=0.0051)


def test_a_bug_keeps_what_was_there_and_says_that_it_is_one(home):
    code = "import sys, stages.prepare as p; sys.argv = ['p']; p.split_rows = lambda *_: 1 / 0; p.run_command(p.main)"
    before = snapshot(home)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    first, second, *_ = done.stderr.splitlines()
    assert first.startswith("error: this is a bug")
    assert second.startswith("Traceback")
    assert snapshot(home) == before


def test_who_reads_no_more_is_no_fault_of_the_store():
    with pytest.raises(BrokenPipeError), connection.explain_store_errors():
        raise BrokenPipeError


def test_four_clones_that_share_an_empty_store_all_find_it(place):
    """At once, as a file that nobody has used yet."""
    code = "import sys; from stages.tracking import connection; print(connection.connect())"
    shared = f"sqlite:///{place}/shared.db"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": shared}
    clones = []
    for number in range(4):
        root = place / f"clone{number}"
        root.mkdir()
        shutil.copy(ROOT / "params.yaml", root)
        line = [sys.executable, "-c", code]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        clones.append(subprocess.Popen(line, cwd=root, env={**environment, "DVC_ROOT": str(root)}, **pipes))
    said = [clone.communicate(timeout=PATIENCE) for clone in clones]
    assert [clone.returncode for clone in clones] == [0] * 4, said
    assert len({out for out, _ in said}) == 1
