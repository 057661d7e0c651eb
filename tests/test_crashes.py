"""What a crash leaves behind: killed stages, a full disk, a locked database, a server that goes away."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading

import pytest

from tests.conftest import clone_project, find_runs, find_versions, production_of
from tests.server import PATIENCE, Drip, wait_until

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    "moment",
    [
        "stages.prepare",
        "train@ridge: Ridge Regression on",
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
    assert {run.info.run_name for run in find_runs(project)} == {"Ridge Regression", "Decision Tree", "Blend"}
    assert find_runs(project, "RUNNING") == []
    assert (project.root / "dvc.lock").read_text() == (origin.root / "dvc.lock").read_text()
    assert production_of(project) == 1


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 40 MB, which a test can fill."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)], check=False)
    if mounted.returncode:
        pytest.skip("a file system can only be mounted by root")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("kilobytes", [20, 400, 1500])
def test_full_disk_is_mended_by_the_next_repro(origin, small_disk, kilobytes):
    project = clone_project(origin, small_disk / "clone")
    filler = small_disk / "filler"
    filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - kilobytes * 1024))
    failed = project.run("dvc", "repro", check=False)
    assert failed.returncode != 0
    assert "Traceback" not in failed.stderr
    filler.unlink()
    project.run("dvc", "repro")
    assert {run.info.run_name for run in find_runs(project)} == {"Ridge Regression", "Decision Tree", "Blend"}
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
    assert len(find_runs(clone)) == 5  # ridge again, and the blend again


def test_server_holds_everything_and_nothing_is_written_here(origin, server, tmp_path):
    project = clone_project(origin, tmp_path / "clone", store=server.address)
    project.run("dvc", "pull")
    project.run("dvc", "repro")
    assert len(find_runs(project)) == 3
    assert production_of(project) == 1
    project.run("dvc", "exp", "run", "--temp", "-S", "ridge.alpha=2000.0")
    assert find_versions(project)[2] == ("None", set())
    project.stage("history", "rollback", "2")
    assert production_of(project) == 2
    assert not (project.root / "mlflow.db").exists()
    assert not (project.root / "mlruns").exists()


def test_server_that_dies_during_the_fit_costs_no_result(origin, server, tmp_path):
    project = clone_project(origin, tmp_path / "clone", store=server.address)
    project.run("dvc", "pull")
    project.run("dvc", "repro")
    project.set_params(ridge={"alpha": 7.0}, fit={"cv_folds": 50})  # which take seconds
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.train", "ridge"],
        cwd=project.root,
        env=project.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    wait_until(lambda: find_runs(project, "RUNNING"), process)
    server.stop()
    _, warned = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert "register will log its run" in warned
    assert json.loads((project.root / "metrics/ridge.json").read_text())["test_r2"] > 0.5
    server.start()
    project.stage("register")
    assert "7.0" in [run.data.params.get("alpha") for run in find_runs(project)]


def test_server_that_drips_in_the_middle_of_register_is_given_up_and_the_next_repro_repairs(origin, server, tmp_path):
    project = clone_project(origin, tmp_path / "clone", store=server.address)
    project.run("dvc", "pull")
    project.env["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "3"
    with Drip(server.port, b"GET /api/2.0/mlflow/registered-models/get", 2) as proxy:
        project.env["MLFLOW_TRACKING_URI"] = proxy.address
        done = project.stage("register", check=False)
        assert proxy.slow.is_set()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "no whole answer within 12 s" in done.stderr
    project.env["MLFLOW_TRACKING_URI"] = server.address
    assert find_versions(project) == {}
    printed = project.run("dvc", "repro").stdout
    assert "stages.train" not in printed
    assert "logged from DVC's files" not in printed  # the runs were there before the server slowed down
    assert production_of(project) == 1
    assert (project.root / "dvc.lock").read_text() == (origin.root / "dvc.lock").read_text()
