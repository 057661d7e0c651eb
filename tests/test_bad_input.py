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
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import joblib
import pandas as pd
import pytest
import yaml

from stages.model.estimators import MODELS, build_estimator, build_regressor
from stages.predict import predict_file
from stages.shared.cli import InputError
from stages.shared.files import hash_file, read_yaml
from stages.shared.params import Blend, Data, Fit, Register, read_section
from stages.table.contract import read_table
from stages.table.dictionary import read_dictionary
from stages.tracking import connection
from tests import bad_inputs as bad
from tests.conftest import ROOT
from tests.rest import serving

SECONDS = 30  # that any refusal may take, also on a slow machine
SCHEMAS = {"data": Data, "fit": Fit, "blend": Blend, "register": Register}


def snapshot(folder):
    """Every file, folder, pipe and link below a folder, and what it holds; locks may come."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        mode = path.lstat().st_mode
        if path.name.endswith(".lock"):
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


def refuse(call, folder="."):
    """Run what must raise InputError, soon and without a trace; returns its message."""
    before, started = snapshot(folder), time.monotonic()
    with pytest.raises(InputError) as caught:
        call()
    assert time.monotonic() - started < SECONDS
    check_message(str(caught.value))
    assert snapshot(folder) == before
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

    estimator = build_estimator(build_regressor("ridge", params["ridge"], 42, 1), MODELS["ridge"], log_target=True)
    return Pipeline([("encoder", Encoder(dictionary)), ("estimator", estimator)]).fit(houses, houses["SalePrice"])


@contextmanager
def inside(folder, store):
    """This process in another folder, with another store."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", store)
        yield


def run(module, *arguments):
    """A command in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [module, *arguments])
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
    with inside(folder, f"sqlite:///{folder}/mlflow.db"):
        run("prepare")
        for name in ("ridge", "decision_tree"):
            run("train", name)
        run("blend", "--models", "ridge", "decision_tree")
        run("champion", "--models", "ridge", "decision_tree")
        run("register")
        outs = [{"path": f"models/{n}", "md5": hash_file(f"models/{n}")} for n in ("ridge", "foreign", "decision_tree")
                if Path("models", n).exists()]
        joblib.dump({"a": 1}, "models/foreign")
        outs.append({"path": "models/foreign", "md5": hash_file("models/foreign")})
        joblib.dump({"b": 1}, "models/unknown")
        Path("dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": {"train": {"outs": outs}}}))
        for name in ("houses.csv", "q.rejects.csv", "w.marks.csv"):
            table.drop(columns="SalePrice").to_csv(name, index=False, na_rep="NA")
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
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder}/mlflow.db")
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


def write_params(content):
    limit = sys.get_int_max_str_digits()
    Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    assert sys.get_int_max_str_digits() == limit


LEARNERS = [(name, values) for name, listed in bad.HYPERPARAMETERS.items() for values in listed]


@pytest.mark.parametrize(("name", "values"), LEARNERS, ids=lambda value: f"{value}"[:60])
def test_a_hyperparameter_that_its_class_does_not_take(tmp_path, monkeypatch, capfd, params, name, values):
    monkeypatch.chdir(tmp_path)
    said = refuse(lambda: build_regressor(name, {**params[name], **values}, 42, 1))
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
    refuse(lambda: run(*command.split()))


LOST = {
    "prepare": ["params.yaml", "data/raw/train.csv", "data/dictionary.yaml"],
    "train ridge": ["params.yaml", "data/prepared", "data/prepared/encoder.joblib", "data/prepared/X_train.parquet"],
    "blend --models ridge decision_tree": ["data/prepared", "models/ridge", "params.yaml"],
    "champion --models ridge decision_tree": ["metrics/ridge.json", "models/ridge", "scores/models/ridge", "scores/blend"],
    "register": ["metrics/champion.json", "metrics/champion.md", "models/champion", "metrics/ridge.json", "dvc.yaml"],
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
    refuse(lambda: run(*command.split()))
