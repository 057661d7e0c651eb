"""The pipeline on real Dask workers: the same results as on one machine, whatever happens to a worker."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import psutil
import pytest
import yaml

from benchmarks.generate import generate_parts
from stages.model.catalogue import MODELS
from stages.model.estimators import build_estimator, build_regressor, find_regressor
from stages.model.metrics import rmse
from stages.shared.cli import InputError
from stages.shared.params import Data, Fit
from stages.table.encoder import Encoder
from tests.conftest import ROOT

if importlib.util.find_spec("distributed") is None:
    assert "CLUSTER_REQUIRED" not in os.environ
    pytest.skip("not installed: Dask", allow_module_level=True)

import fsspec
from distributed import Client, LocalCluster

from stages.cluster import connection, fitting, moments
from stages.cluster.pieces import Piece
from stages.cluster.predicting import name_outputs
from stages.cluster.preparing import bring_here, prepare_parts
from stages.prepare import choose_log

FIT = Fit(log_target=True, cv_folds=0, threads=1, seed=42)
DATA = Data(path="parts", dictionary="data/dictionary.yaml", target=None, test_size=0.2, seed=42)


@pytest.fixture(scope="module")
def folder(dictionary, tmp_path_factory):
    """A project's folder with a table in four parts, and one part without rows."""
    root = tmp_path_factory.mktemp("rows_cluster")
    shutil.copytree(ROOT / "data", root / "data", ignore=shutil.ignore_patterns("prepared", ".gitignore"))
    generate_parts(str(ROOT / "data/raw/train.csv"), dictionary, 4, root / "parts", 4)
    pd.read_parquet(root / "parts/part-0000.parquet").head(0).to_parquet(root / "parts/part-0009.parquet")
    kept = Path.cwd()
    os.chdir(root)
    prepare_parts("local", DATA, FIT, choose_log)
    yield root
    os.chdir(kept)


@pytest.fixture(scope="module")
def client(folder):
    with connection.connect("local") as client:
        yield client


def read(name):
    return pd.read_parquet(f"data/prepared/{name}.parquet")


@pytest.fixture(scope="module")
def table(client):
    files = sorted(Path("data/prepared/X_train.parquet").resolve().iterdir())
    pieces = [Piece(file, file.parents[1] / "y_train.parquet" / file.name, log_target=True, seed=42) for file in files]
    return fitting.open_table(client, pieces, read("X_train").shape[1], 5, "test")


def test_encoder_and_features_are_those_of_one_table_to_the_bit(folder):
    rows = read("rows_train")
    encoder = Encoder(joblib.load("data/prepared/encoder.joblib").dictionary)
    X = encoder.fit_transform(rows, read("y_train")["target"].to_numpy())
    assert (read("X_train").to_numpy() == X).all()
    assert (encoder.transform(read("rows_test")) == read("X_test").to_numpy()).all()
    assert len(rows) + len(read("rows_test")) == 4 * 1460
    assert not set(rows.index) & set(read("rows_test").index)
    assert abs(len(read("rows_test")) / (4 * 1460) - 0.2) < 0.02


@pytest.mark.parametrize(
    ("name", "section"),
    [("linear", {}), ("ridge", {"alpha": 10.0}), ("lasso", {"alpha": 0.001, "precompute": True, "max_iter": 5000})],
)
def test_linear_models_predict_what_those_of_one_machine_do(client, table, name, section):
    found = moments.measure(client, table.pieces, 5, name)
    steps = moments.fit_linear(build_regressor(name, section, 42, 1), found, [*range(5)])
    X, y = read("X_train").to_numpy(), read("y_train")["target"].to_numpy()
    expected = build_estimator(build_regressor(name, section, 42, 1), MODELS[name], log_target=False)
    expected.fit(X, np.log1p(y).astype(np.float32))
    X_test, predicted = read("X_test").to_numpy(), read("X_test").to_numpy()
    for _, transformer in steps[:-1]:
        predicted = transformer.transform(predicted)
    np.testing.assert_allclose(steps[-1][1].predict(predicted), expected.predict(X_test), rtol=1e-8)


@pytest.mark.parametrize(
    ("name", "section"),
    [
        ("xgboost", {"n_estimators": 40, "learning_rate": 0.2, "max_depth": 4}),
        ("lightgbm", {"n_estimators": 40, "learning_rate": 0.2, "num_leaves": 15}),
    ],
)
def test_boosters_are_as_good_as_those_of_one_machine(client, table, name, section):
    (fitted,) = fitting.fit_all(client, fitting.Task(name, section, FIT, 1000), table)
    expected = build_estimator(build_regressor(name, section, 42, 1), MODELS[name], log_target=True)
    expected.fit(read("X_train").to_numpy(), read("y_train")["target"].to_numpy())
    X, y = read("X_test").to_numpy(), read("y_test")["target"].to_numpy()
    assert rmse(y, fitted.predict(X)) == pytest.approx(rmse(y, expected.predict(X)), rel=0.05)


def test_tree_learns_from_a_sample_and_says_so(client, table):
    (fitted,) = fitting.fit_all(client, fitting.Task("decision_tree", {"min_samples_leaf": 12}, FIT, 1000), table)
    assert find_regressor(fitted).sample_rows_ == pytest.approx(1000, rel=0.15)
    (whole,) = fitting.fit_all(client, fitting.Task("decision_tree", {"min_samples_leaf": 12}, FIT, 10**6), table)
    assert not hasattr(find_regressor(whole), "sample_rows_")


@contextmanager
def killing(client, task, worked=0.0):
    """Kills the first worker that has worked for some seconds since it was seen at a task of that name; yields whom."""
    killed, seen, over = [], {}, threading.Event()
    processes = {address: psutil.Process(process) for address, process in client.run(os.getpid).items()}

    def kill():
        while not killed and not over.is_set():
            busy = [address for address, keys in client.processing().items() if any(task in str(key) for key in keys)]
            for address in busy:
                spent = processes[address].cpu_times().user
                if not killed and spent >= seen.setdefault(address, spent) + worked:
                    processes[address].kill()
                    killed.append(address)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def test_worker_killed_in_prepare_changes_no_byte(folder, client):
    def read_all():
        return {file: file.read_bytes() for file in Path("data/prepared").rglob("*") if file.is_file()}

    before = read_all()
    for task in ("split_part", "encode_part"):
        with killing(client, task) as killed:
            prepare_parts(client.scheduler.address, DATA, FIT, choose_log)
        assert killed
        assert read_all() == before


@pytest.mark.parametrize(("name", "task"), [("xgboost", "boost_shares"), ("lightgbm", "_train_part")])
def test_worker_killed_in_a_fit_changes_no_prediction(client, table, name, task, capsys):
    section = {"n_estimators": 150 if name == "xgboost" else 600, "learning_rate": 0.05}
    what, X = fitting.Task(name, section, FIT, 1000), read("X_test").to_numpy()
    client.wait_for_workers(os.cpu_count(), timeout=60)  # one may have been killed by another test
    (undisturbed,) = fitting.fit_all(client, what, table)
    with killing(client, task, worked=0.5) as killed:
        (fitted,) = fitting.fit_all(client, what, table)
    assert killed
    assert re.search(f"train@{name}: (a worker was|workers were) lost.*; once more", capsys.readouterr().err)
    if name == "xgboost":
        assert (fitted.predict(X) == undisturbed.predict(X)).all()
    y = read("y_test")["target"].to_numpy()
    assert rmse(y, fitted.predict(X)) == pytest.approx(
        rmse(y, undisturbed.predict(X)), rel=0.15
    )  # two of LightGBM differ by 6 %


def test_fit_that_is_lost_twice_is_one_line_with_the_size_that_parts_may_have(client):
    def lose():
        raise connection.LossError("train@x: workers were lost (TimeoutError: gone)")

    with pytest.raises(InputError, match=r"train@x: workers were lost .*, twice; .* write parts of at most [\d,]+ MB"):
        connection.fit_together(client, lose, "train@x")


def fill_memory(part):
    return len(bytearray(os.urandom(1 << 20)) * 3000) + part


def test_part_too_large_for_a_worker_is_one_line_with_the_size_that_it_may_have(folder):
    with (
        LocalCluster(n_workers=1, memory_limit="500MB", dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as small,
        pytest.raises(InputError, match=r"test: workers were lost .* write parts of at most 50 MB"),
    ):
        connection.map_parts(small, fill_memory, [1], "test")


def change_parts(folder, **changes):
    """A copy of the parts in which some are changed: part_0000=function of a frame."""
    for name, change in changes.items():
        file = folder / f"{name.replace('_', '-')}.parquet"
        change(pd.read_parquet(file)).to_parquet(file)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"part_0001": lambda t: t.drop(columns="LotArea"), "part_0002": lambda t: t.astype({"LotArea": "str"})},
            ["part-0001.parquet: lacks LotArea", "part-0002.parquet: LotArea text in place of numbers"],
        ),
        (
            {"part_0001": lambda t: t.assign(Id=t["Id"] - 1460), "part_0002": lambda t: t.assign(Id=t["Id"])},
            ["1,460 id(s) stand in more than one part", "in part-0000.parquet", "in part-0001.parquet"],
        ),
        (
            {
                "part_0000": lambda t: t.assign(Street=["Mud", *t["Street"][1:]]),
                "part_0003": lambda t: t.assign(YearBuilt=[1066, *t["YearBuilt"][1:]]),
            },
            ["2 fault(s)", "Street: must be one of", "YearBuilt: must be at least"],
        ),
    ],
)
def test_faults_of_all_parts_are_in_one_message(folder, client, tmp_path, changes, expected):
    shutil.copytree("parts", tmp_path / "parts")
    change_parts(tmp_path / "parts", **changes)
    before = sorted(Path("data").rglob("*"))
    with pytest.raises(InputError) as raised:
        prepare_parts(
            client.scheduler.address, DATA.model_copy(update={"path": str(tmp_path / "parts")}), FIT, choose_log
        )
    assert all(line in str(raised.value) for line in expected), str(raised.value)
    assert sorted(Path("data").rglob("*")) == before


def test_two_parts_never_have_the_same_predictions():
    dask = [f"parts/part.{number}.parquet" for number in range(3)]
    assert name_outputs(dask, "parts") == ["part.0.parquet", "part.1.parquet", "part.2.parquet"]
    for same in (["parts/a.csv", "parts/a.parquet"], ["x/table.csv.gz", "y/table.csv.gz"]):
        with pytest.raises(InputError, match=r"the predictions of 2 parts would be (a|table)\.parquet: "):
            name_outputs(same, "parts")


def test_part_that_is_replaced_under_its_name_is_brought_again():
    """A worker lives for days."""
    place = fsspec.filesystem("memory")
    for text in (b"a\n1\n", b"a\n22\n"):
        place.pipe_file("/parts/part.csv", text)
        assert Path(bring_here("memory://parts/part.csv")).read_bytes() == text


def test_address_without_scheduler_or_workers_is_one_line(folder):
    with pytest.raises(InputError, match="no scheduler answers"), connection.connect("tcp://127.0.0.1:1"):
        pass
    with (
        LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster,
        pytest.raises(InputError, match="has no workers"),
        connection.connect(cluster.scheduler_address),
    ):
        pass


@pytest.mark.parametrize(
    ("path", "named"),
    [([], "stages on its path none, here"), ([ROOT, "other"], "numpy 9.9.9, here .* xgboost 9.9.9, here")],
)
def test_worker_that_differs_is_named_with_what_differs(folder, tmp_path, path, named):
    for package in ("xgboost", "numpy"):
        described = tmp_path / f"other/{package}-9.9.9.dist-info/METADATA"
        described.parent.mkdir(parents=True)
        described.write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 9.9.9\n")
    env = os.environ | {"PYTHONPATH": os.pathsep.join(str(tmp_path / place) for place in path)}
    with LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0") as cluster:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address, "--no-dashboard"]
        worker = subprocess.Popen([*command, "--no-nanny"], cwd=tmp_path, env=env, stderr=subprocess.DEVNULL)
        try:
            with Client(cluster) as plain:
                plain.wait_for_workers(1, timeout=60)
            with pytest.raises(InputError, match=named), connection.connect(cluster.scheduler_address):
                pass
        finally:
            worker.terminate()
            worker.wait()


def test_one_machine_imports_no_dask(project):
    code = """
import sys
import stages.predict, stages.train, stages.blend, stages.champion, stages.model.training
from stages.prepare import main
sys.argv = ["prepare"]
main()
found = {name.partition(".")[0] for name in sys.modules} & {"dask", "distributed"}
assert not found, found
"""
    project.run(sys.executable, "-c", code)


@pytest.mark.slow
def test_whole_pipeline_on_parts(project, dictionary):
    project.keep_models("ridge", "decision_tree")
    generate_parts("data/raw/train.csv", dictionary, 3, project.root / "data/parts", 3)
    project.set_params(
        data={"path": "data/parts"},
        fit={"cv_folds": 2},
        cluster={"address": "local", "sample_rows": 1000},
    )
    printed = project.run("dvc", "repro").stdout
    scores = {p.stem: yaml.safe_load(p.read_text()) for p in (project.root / "metrics").glob("*.json")}
    assert scores["ridge"]["test_r2"] > 0.85
    assert scores["decision_tree"]["sample_rows"] == pytest.approx(1000, rel=0.15)
    assert f"Decision Tree (on {scores['decision_tree']['sample_rows']:,} rows)" in printed
    assert scores["champion"]["ranking"][0] in ("ridge", "blend")
    change_parts(
        project.root / "data/parts", part_0000=lambda t: t.assign(LotArea=[float("inf"), -1, *t["LotArea"][2:]])
    )
    said = project.stage("predict", "data/parts", "--output", "predictions", "--skip-bad").stdout
    assert "1 row(s) left out → _part-0000.rejects.csv" in said
    assert "_part-0000.marks.csv" in said
    predicted = pd.read_parquet(project.root / "predictions")
    assert len(predicted) == 3 * 1460 - 1
    one = project.root / "data/parts/part-0001.parquet"
    project.set_params(cluster={"address": None})
    project.stage("predict", str(one), "--output", "one.parquet")  # the same pipeline, on one machine
    pd.testing.assert_frame_equal(
        pd.read_parquet(project.root / "one.parquet"), pd.read_parquet(project.root / "predictions" / one.name)
    )
