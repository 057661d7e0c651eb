"""MLflow mirrors DVC: provenance, rebuilding, experiments, promotion, rollback, parallel runs, crashes, servers."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests

from tests.conftest import clone_project, copy_project

pytestmark = pytest.mark.slow

TIMINGS = {"fit_seconds", "predict_seconds_per_row"}  # facts of one execution, which DVC does not keep
SESSION_TAGS = ("mlflow.", "dvc.model_id", "dvc.process", "dvc.baseline_rev", "dvc.rebuilt")


def make_small(root, store=None):
    project = copy_project(root, store)
    project.keep_models("ridge", "decision_tree")
    project.set_params(fit={"cv_folds": 0}, decision_tree={"criterion": "squared_error"}, register={"min_test_r2": 0.5})
    project.commit("two models")
    return project


@pytest.fixture(scope="module")
def origin(tmp_path_factory):
    """A small project that has run, is committed, and has pushed to a remote."""
    folder = tmp_path_factory.mktemp("origin")
    project = make_small(folder / "project")
    project.run("dvc", "remote", "add", "--default", "store", str(folder / "remote"))
    project.commit("remote")
    project.run("dvc", "repro")
    project.commit("run")
    project.run("dvc", "push", "--run-cache")
    return project


@pytest.fixture
def clone(origin, tmp_path):
    """A clone after `dvc pull`: DVC's files, and an empty MLflow."""
    project = clone_project(origin, tmp_path / "clone")
    project.run("dvc", "pull", "--run-cache")
    return project


def find_runs(project, status="FINISHED"):
    mlflow.set_tracking_uri(project.store)
    return mlflow.search_runs(
        experiment_names=["House-Prices-Regression"],
        filter_string=f"attributes.status = '{status}'",
        output_format="list",
    )


def find_versions(project):
    """{version: (stage, aliases)} of the registered model."""
    mlflow.set_tracking_uri(project.store)
    found = mlflow.search_model_versions(filter_string="name = 'HousePricesPredictor'")
    aliases = mlflow.MlflowClient().get_registered_model("HousePricesPredictor").aliases if found else {}
    return {
        int(v.version): (v.current_stage, {a for a, n in aliases.items() if int(n) == int(v.version)}) for v in found
    }


def production_of(project):
    """The one version in Production, which must load and predict."""
    (number,) = [n for n, (stage, _) in find_versions(project).items() if stage == "Production"]
    model = mlflow.pyfunc.load_model("models:/HousePricesPredictor/Production")
    assert np.isfinite(model.predict(pd.read_parquet(project.root / "data/prepared/rows_test.parquet"))).all()
    return number


def compare(run):
    """What must be equal between a run and the same run rebuilt."""
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith(SESSION_TAGS)}
    metrics = {key: value for key, value in run.data.metrics.items() if key not in TIMINGS}
    return run.info.run_name, run.data.params, metrics, tags


def predict(run, project):
    rows = pd.read_parquet(project.root / "data/prepared/rows_test.parquet")
    return mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(rows)


def test_run_version_and_lock_lead_to_each_other(origin):
    lock = (origin.root / "dvc.lock").read_text()
    for run in find_runs(origin):
        tags = run.data.tags
        assert tags["dvc.model_md5"] in lock
        assert tags["dvc.metrics_md5"] in lock
        assert tags["dvc.md5.data/raw/train.csv"] in lock
        assert tags["dvc.md5.data/prepared/X_train.parquet"] in lock
        assert tags["dvc.stage"].startswith("train@")
        assert len(tags["dvc.baseline_rev"]) == 40
        assert tags["dvc.dirty"] in ("true", "false")
        for key in (tags["dvc.model_md5"], run.info.run_id):
            shown = origin.stage("history", "show", key).stdout
            assert run.info.run_id in shown
            assert tags["dvc.model_md5"] in shown
    assert "Production" in origin.stage("history", "show", "1").stdout


def test_the_lines_that_show_prints_bring_the_bytes_back(origin, tmp_path):
    run = next(run for run in find_runs(origin) if run.info.run_name == "Ridge Regression")
    shown = origin.stage("history", "show", run.info.run_id).stdout
    lines = [line.strip() for line in shown.partition("bring its files back:\n")[2].splitlines()]
    clone = clone_project(origin, tmp_path / "clone")
    for line in lines:
        clone.run("bash", "-c", line)
    kept = (origin.root / "models/ridge").read_bytes()
    assert (clone.root / "models/ridge").read_bytes() == kept


def test_clone_and_pull_rebuild_equal_runs_without_training(origin, clone):
    printed = clone.run("dvc", "repro").stdout
    assert "python -m stages.train" not in printed
    assert printed.count("logged from DVC's files") == 2
    originals, rebuilt = ({run.info.run_name: run for run in find_runs(p)} for p in (origin, clone))
    assert {n: compare(r) for n, r in originals.items()} == {n: compare(r) for n, r in rebuilt.items()}
    assert all(run.data.tags["dvc.rebuilt"] == "true" for run in rebuilt.values())
    again = {name: predict(run, clone) for name, run in rebuilt.items()}
    find_runs(origin)
    for name, run in originals.items():
        np.testing.assert_array_equal(predict(run, origin), again[name])
    assert production_of(clone) == 1


def test_lost_store_is_rebuilt(clone):
    clone.run("dvc", "repro")
    (clone.root / "mlflow.db").unlink()
    shutil.rmtree(clone.root / "mlruns")
    clone.run("dvc", "repro")
    assert len(find_runs(clone)) == 2
    assert production_of(clone) == 1


def test_experiment_in_a_temporary_folder_logs_to_the_projects_store(clone):
    clone.run("dvc", "repro")
    clone.run("dvc", "exp", "run", "--temp", "--name", "aside", "-S", "ridge.alpha=5.0")
    (run,) = [run for run in find_runs(clone) if run.data.params.get("alpha") == "5.0"]
    assert run.data.tags["dvc.exp_name"] == "aside"
    assert predict(run, clone).shape == (292,)
    assert find_versions(clone)[1][0] == "Production"


def test_queue_is_the_first_use_of_mlflow_and_loses_no_run(clone):
    for alpha in ("5.0", "6.0"):
        clone.run("dvc", "exp", "run", "--queue", "-S", f"ridge.alpha={alpha}")
    clone.run("dvc", "queue", "start", "-j", "2")
    wait_for(lambda: clone.run("dvc", "queue", "status").stdout.count("Success") == 2, clone)
    trained = [run.data.params["alpha"] for run in find_runs(clone) if "dvc.rebuilt" not in run.data.tags]
    assert sorted(trained) == ["5.0", "6.0"]


def wait_for(condition, project, seconds=240):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, project.run("dvc", "queue", "status").stdout
        assert "Failed" not in project.run("dvc", "queue", "status").stdout


def test_result_restored_by_the_run_cache_is_found_not_lost(clone):
    for alpha in (5.0, 6.0):
        clone.set_params(ridge={"alpha": alpha})
        clone.run("dvc", "repro")
    before = len(find_runs(clone))
    clone.set_params(ridge={"alpha": 5.0})
    printed = clone.run("dvc", "repro").stdout
    assert "python -m stages.train" not in printed
    assert "logged from DVC's files" not in printed
    assert len(find_runs(clone)) == before
    (clone.root / "mlflow.db").unlink()
    assert "Ridge Regression was not in MLflow; logged from DVC's files" in clone.run("dvc", "repro").stdout


def test_applied_experiment_is_registered_by_the_next_repro(clone):
    clone.run("dvc", "repro")
    printed = clone.run("dvc", "exp", "run", "--name", "worse", "-S", "ridge.alpha=2000.0").stdout
    assert "experiment worse proposes version 2" in printed
    assert find_versions(clone)[1] == ("Production", {"champion"})
    assert find_versions(clone)[2] == ("None", {"challenger"})
    clone.run("dvc", "exp", "apply", "worse")
    printed = clone.run("dvc", "repro").stdout
    assert "Production stays version 1: version 2 has test_r2" in printed
    assert "a gain of at least 0.0 is asked" in printed
    clone.set_params(register={"promote": "always"})
    clone.run("dvc", "repro")
    assert production_of(clone) == 2
    assert find_versions(clone)[1] == ("Archived", set())


@pytest.mark.parametrize(
    ("register", "words"),
    [
        ({"promote": "never"}, "register.promote = never"),
        ({"min_test_r2": 0.99}, "below register.min_test_r2 = 0.99"),
        ({"min_gain": 0.5}, "a gain of at least 0.5 is asked"),
    ],
)
def test_candidate_that_may_not_replace_production_waits(clone, register, words):
    clone.set_params(ridge={"alpha": 2000.0})
    clone.run("dvc", "repro")
    clone.set_params(ridge={"alpha": 20.0}, register=register)
    printed = clone.run("dvc", "repro").stdout
    assert words in printed
    assert production_of(clone) == 1


def test_better_candidate_replaces_production_with_both_figures(clone):
    clone.set_params(ridge={"alpha": 2000.0})
    clone.run("dvc", "repro")
    clone.set_params(ridge={"alpha": 20.0})
    printed = clone.run("dvc", "repro").stdout
    assert "version 2 → Production. test_r2 0.9" in printed
    assert "of version 1 on the same test rows" in printed
    assert production_of(clone) == 2


def test_broken_production_is_reported_and_replaced(clone):
    clone.run("dvc", "repro")
    mlflow.set_tracking_uri(clone.store)
    version = mlflow.MlflowClient().get_model_version("HousePricesPredictor", "1")
    folder = mlflow.artifacts.download_artifacts(f"models:/HousePricesPredictor/{version.version}")
    for path in clone.root.glob("mlruns/**/model.skops"):
        path.write_bytes(b"broken")
    assert folder
    clone.set_params(ridge={"alpha": 2000.0})
    printed = clone.run("dvc", "repro").stdout
    assert "can't be scored" in printed
    assert production_of(clone) == 2


def test_rollback_is_remembered_and_history_tells_it(clone):
    clone.set_params(ridge={"alpha": 2000.0})
    clone.run("dvc", "repro")
    clone.set_params(ridge={"alpha": 20.0})
    clone.run("dvc", "repro")
    clone.stage("history", "rollback")
    assert production_of(clone) == 1
    printed = clone.run("dvc", "repro").stdout
    assert "version 2 was rolled back by hand" in printed
    assert production_of(clone) == 1
    clone.stage("history", "rollback", "2")
    assert production_of(clone) == 2
    history = clone.stage("history", "list").stdout.splitlines()
    assert [line.split()[2] for line in history] == ["1", "2", "1", "2"]
    assert clone.stage("history", "rollback", "9", check=False).stderr.startswith("error: there is no version 9")


def test_jobs_side_by_side_on_a_fresh_store_give_the_same_lock(origin, tmp_path):
    project = clone_project(origin, tmp_path / "clone")
    (project.root / ".venv").symlink_to(Path(sys.executable).parent.parent)
    done = project.run("make", "--touch", ".venv/ready", check=False)
    project.run("make", "repro", "JOBS=2")
    assert done
    assert (project.root / "dvc.lock").read_text() == (origin.root / "dvc.lock").read_text()
    assert len(find_runs(project)) == 2


@pytest.mark.parametrize(
    "moment",
    [
        "stages.prepare",
        "train@ridge: Ridge Regression on",
        "train@ridge: fitted",
        "stages.train decision_tree",
        "stages.register",
    ],
)
def test_kill_at_any_moment_is_mended_by_the_next_repro(origin, tmp_path, moment):
    project = clone_project(origin, tmp_path / "clone")
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=project.root, env=project.env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        for line in process.stdout:
            if moment in line:
                break
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    project.run("dvc", "repro")
    assert {run.info.run_name for run in find_runs(project)} == {"Ridge Regression", "Decision Tree"}
    assert find_runs(project, "RUNNING") == []
    assert (project.root / "dvc.lock").read_text() == (origin.root / "dvc.lock").read_text()
    assert production_of(project) == 1


def test_locked_store_is_waited_for(clone):
    clone.run("dvc", "repro")
    lock = sqlite3.connect(clone.root / "mlflow.db", isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(10, lock.rollback)
    release.start()
    clone.run("dvc", "exp", "run", "-S", "ridge.alpha=5.0")
    release.join()
    lock.close()
    assert len(find_runs(clone)) == 3


@pytest.fixture
def server(tmp_path):
    """A real `mlflow server` on a free port, which a test can stop and start again."""

    class Server:
        def __init__(self):
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                self.port = probe.getsockname()[1]
            self.address = f"http://127.0.0.1:{self.port}"

        def start(self):
            command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
            command += ["--backend-store-uri", f"sqlite:///{tmp_path / 'server.db'}", "--serve-artifacts"]
            command += ["--artifacts-destination", str(tmp_path / "artifacts"), "--workers", "1"]
            log = (tmp_path / "server.log").open("a")
            self.process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True)
            deadline = time.monotonic() + 120
            while not self.answers():
                assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
                assert self.process.poll() is None, (tmp_path / "server.log").read_text()

        def answers(self):
            try:
                return requests.get(f"{self.address}/health", timeout=2).ok
            except requests.ConnectionError:
                return False

        def stop(self):
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()

    server = Server()
    server.start()
    yield server
    server.stop()


def test_server_holds_everything_and_nothing_is_written_here(origin, server, tmp_path):
    project = clone_project(origin, tmp_path / "clone", store=server.address)
    project.run("dvc", "pull")
    project.run("dvc", "repro")
    assert len(find_runs(project)) == 2
    assert production_of(project) == 1
    project.run("dvc", "exp", "run", "--temp", "-S", "ridge.alpha=2000.0")
    assert find_versions(project)[2] == ("None", {"challenger"})
    project.stage("history", "rollback", "2")
    assert production_of(project) == 2
    assert not (project.root / "mlflow.db").exists()
    assert not (project.root / "mlruns").exists()


def test_server_that_dies_during_the_fit_costs_no_result(origin, server, tmp_path):
    project = clone_project(origin, tmp_path / "clone", store=server.address)
    project.run("dvc", "pull")
    project.run("dvc", "repro")
    project.set_params(ridge={"alpha": 7.0})
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train", "ridge"],
        cwd=project.root,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert "Ridge Regression on" in process.stdout.readline()  # printed once the run is open
    server.stop()
    _, warned = process.communicate(timeout=300)
    assert process.returncode == 0
    assert "register will log its run" in warned
    assert json.loads((project.root / "metrics/ridge.json").read_text())["test_r2"] > 0.5
    server.start()
    project.stage("register")
    assert "7.0" in [run.data.params.get("alpha") for run in find_runs(project)]
