"""What a crash leaves behind: killed stages, a full disk, a locked database, a server that goes away."""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading

import mlflow
import pytest

from stages.registry.promotion import fetch_logged
from stages.shared.cli import InputError
from tests.conftest import clone_project, find_runs, find_versions, production_of
from tests.server import PATIENCE, Drip, Server, wait_until

pytestmark = pytest.mark.slow


def check_mended(project, origin):
    """Raises AssertionError unless everything is as if nothing had happened."""
    assert {run.info.run_name for run in find_runs(project)} == {"Ridge Regression", "Decision Tree", "Blend"}
    assert find_runs(project, "RUNNING") == []
    assert (project.root / "dvc.lock").read_text() == (origin.root / "dvc.lock").read_text()
    assert production_of(project) == 1


def kill_repro(project, moment):
    """Start `dvc repro`, and kill it and all its processes once it prints a line."""
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=project.root, env=project.env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        assert any(moment in line for line in process.stdout), moment
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_kills_at_any_moment_are_mended_by_the_next_repro(origin, tmp_path):
    """Each repro goes on where the one before was killed."""
    project = clone_project(origin, tmp_path / "clone")
    for moment in ("stages.prepare", "train@ridge: Ridge Regression on", "stages.blend", "stages.register"):
        kill_repro(project, moment)
    project.run("dvc", "repro")
    check_mended(project, origin)


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


def test_disk_that_is_full_at_several_moments_is_mended_by_the_next_repro(origin, small_disk):
    project, filler = clone_project(origin, small_disk / "clone"), small_disk / "filler"
    project.run(sys.executable, "-m", "compileall", "-q", "stages")  # Python may leave half a file of bytecode behind
    for kilobytes in (20, 400, 1500):
        filler.write_bytes(bytes(shutil.disk_usage(small_disk).free - kilobytes * 1024))
        failed = project.run("dvc", "repro", check=False)
        assert failed.returncode != 0, kilobytes
        assert "Traceback" not in failed.stderr
        filler.unlink()
    project.run("dvc", "repro")
    check_mended(project, origin)


def test_locked_store_is_waited_for(registered):
    lock = sqlite3.connect(registered.root / "mlflow.db", isolation_level=None, check_same_thread=False)
    lock.execute("BEGIN EXCLUSIVE")
    release = threading.Timer(10, lock.rollback)
    release.start()
    registered.run("dvc", "exp", "run", "-S", "ridge.alpha=5.0")
    release.join()
    lock.close()
    assert len(find_runs(registered)) == 5  # ridge again, and the blend again


@pytest.fixture(scope="module")
def remote(origin, tmp_path_factory):
    """A clone that has DVC's files, and a server for its runs, which has nothing yet."""
    server = Server(tmp_path_factory.mktemp("server"))
    try:
        server.start()
        project = clone_project(origin, tmp_path_factory.mktemp("remote") / "clone", store=server.address)
        project.run("dvc", "pull")
        yield project, server
    finally:
        server.stop()


def test_server_that_drips_in_the_middle_of_register_is_given_up_and_the_next_repro_repairs(remote, origin):
    project, server = remote
    project.env["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "3"
    with Drip(server.port, b"GET /api/2.0/mlflow/registered-models/get", 2) as proxy:
        project.env["MLFLOW_TRACKING_URI"] = proxy.address
        done = project.stage("register", check=False)
        assert proxy.slow.is_set()
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert "no whole answer within 12 s" in done.stderr
    project.env["MLFLOW_TRACKING_URI"] = server.address
    del project.env["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    assert find_versions(project) == {}
    printed = project.run("dvc", "repro").stdout
    assert "stages.train" not in printed
    assert "logged from DVC's files" not in printed  # the runs were there before the server slowed down
    assert production_of(project) == 1
    assert (project.root / "dvc.lock").read_text() == (origin.root / "dvc.lock").read_text()


def test_server_holds_everything_and_nothing_is_written_here(remote):
    project, _ = remote
    project.run("dvc", "repro")
    assert len(find_runs(project)) == 3
    assert production_of(project) == 1
    project.run("dvc", "exp", "run", "--temp", "-S", "ridge.alpha=2000.0")
    assert find_versions(project)[2] == ("None", set())
    project.stage("history", "rollback", "2")
    assert production_of(project) == 2
    assert not (project.root / "mlflow.db").exists()
    assert not (project.root / "mlruns").exists()


def test_production_whose_store_cannot_be_reached_stays_and_nothing_is_logged_again(remote, monkeypatch):
    """A better model stands ready; what keeps the files of the one that serves answers each request with 500."""
    project, server = remote
    project.run("dvc", "repro")
    project.set_params(ridge={"alpha": 30.0}, register={"promote": "always"})
    for stage in ("train@ridge", "blend", "champion"):
        project.run("dvc", "repro", "--single-item", stage)
    before, runs = find_versions(project), len(find_runs(project))
    server.stop()
    server.start("s3://nowhere")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    mlflow.set_tracking_uri(server.address)
    with pytest.raises(InputError, match="not to be had from"):  # which the gate would otherwise take for damage
        fetch_logged("models:/HousePricesPredictor/1")
    project.env["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
    done = project.stage("register", check=False)
    del project.env["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    server.stop()
    server.start()
    assert (find_versions(project), len(find_runs(project))) == (before, runs)
    assert find_runs(project, "RUNNING") == []
    project.stage("register")
    assert production_of(project) == max(find_versions(project))


def test_server_that_dies_during_the_fit_costs_no_result(remote):
    project, server = remote
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
