"""Two people on PostgreSQL, an S3 store and MLflow with logins, as `make team` starts them without Docker."""

import importlib.util
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path

import mlflow
import pandas as pd
import pytest
import requests

from benchmarks.generate import generate_parts
from stages.registry.loading import open_model
from tests.conftest import ROOT, clone_project, find_runs, find_versions
from tests.rest import serving
from tests.server import PATIENCE, wait_until

pytestmark = pytest.mark.slow


def find_ports():
    """The first of 20 ports in a row that nobody listens on."""
    for first in range(21000, 32000, 20):
        with ExitStack() as probes, suppress(OSError):
            for port in range(first, first + 20):
                probe = probes.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a port that was just closed is free
                probe.bind(("127.0.0.1", port))
            return first
    raise AssertionError("no 20 free ports in a row")


class Stack:
    """team/stack.sh in a folder that PostgreSQL's user may enter, also if the tests run as root."""

    def __init__(self, folder):
        self.folder, self.port = folder, find_ports()
        lines = (ROOT / ".env.example").read_text().replace("TEAM_PORT=5500", f"TEAM_PORT={self.port}").splitlines()
        lines = [line + secrets.token_hex(8) * line.endswith("=") for line in lines]
        (folder / "env").write_text("\n".join(lines))
        self.secret = dict(line.split("=", 1) for line in lines if "=" in line and not line.startswith("#"))
        self.address = f"http://127.0.0.1:{self.port}"
        self.aws = {key: self.secret[key] for key in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}

    def do(self, *words):
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        own = {"PATH": path, "TEAM_ENV": str(self.folder / "env"), "TEAM_DIR": str(self.folder / "data")}
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("MLFLOW_", "AWS_"))}
        done = subprocess.run(
            [ROOT / "team/stack.sh", *words], env={**clean, **own}, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr

    def ask(self, path, api=2, **content):
        login = ("admin", self.secret["MLFLOW_AUTH_ADMIN_PASSWORD"])
        answer = requests.post(f"{self.address}/api/{api}.0/mlflow/{path}", json=content, auth=login, timeout=60)
        answer.raise_for_status()

    def log_in(self, project, user):
        """Let a project, and this process, speak to the server as a user."""
        login = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": f"{user}-password"}
        project.env |= self.aws | login | {"MLFLOW_TRACKING_URI": self.address}
        os.environ.update(login)

    def signal(self, number):
        os.killpg(int((self.folder / "data/mlflow.pid").read_text()), number)


@pytest.fixture(scope="module")
def stack():
    missing = [name for name in ("boto3", "dvc_s3", "psycopg2") if not importlib.util.find_spec(name)]
    if not Path(sys.executable).with_name("weed").exists():
        missing.append("weed")
    if not any(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")) and not shutil.which("pg_ctl"):
        missing.append("PostgreSQL")
    if missing:
        assert "TEAM_REQUIRED" not in os.environ, missing
        pytest.skip(f"not installed: {', '.join(missing)}")
    kept = dict(os.environ)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own is closed to other users
        Path(folder).chmod(0o755)
        stack = Stack(Path(folder))
        try:
            stack.do("up")
            for user in ("ann", "bob", "eve"):
                stack.ask("users/create", username=user, password=f"{user}-password")
            yield stack
        finally:
            stack.do("down")
    assert find_ports() <= stack.port  # nothing that it started listens any more
    os.environ.clear()
    os.environ.update(kept)


@pytest.fixture(scope="module")
def ann(stack, origin, tmp_path_factory):
    """Ann's project has run and is pushed; Bob may change what she logged, Eve may only read it."""
    project = clone_project(origin, tmp_path_factory.mktemp("ann") / "project")
    project.run("dvc", "pull")  # its results, which the server lacks
    stack.log_in(project, "ann")
    project.run("dvc", "remote", "remove", "store")
    project.run("dvc", "remote", "add", "--default", "team", "s3://dvc")
    project.run("dvc", "remote", "modify", "team", "endpointurl", f"http://127.0.0.1:{stack.port + 2}")
    project.run("dvc", "repro")
    project.commit("run")
    project.run("dvc", "push")
    for kind, name in (("experiment", "1"), ("registered_model", "HousePricesPredictor")):
        stack.ask("users/permissions/grant", 3, username="bob", resource_type=kind, resource_id=name, permission="EDIT")
    return project


@pytest.fixture(scope="module")
def bob(stack, ann, tmp_path_factory):
    project = clone_project(ann, tmp_path_factory.mktemp("bob") / "project")
    stack.log_in(project, "bob")
    project.run("dvc", "pull")
    return project


def find_serving(project):
    (number,) = [n for n, (stage, aliases) in find_versions(project).items() if stage == "Production"]
    assert "champion" in find_versions(project)[number][1]
    return number


def test_second_clone_trains_and_logs_nothing(stack, ann, bob):
    printed = bob.run("dvc", "repro").stdout
    assert "stages.train" not in printed
    assert "logged from DVC's files" not in printed
    assert {run.data.tags["mlflow.user"] for run in find_runs(bob)} == {"ann"}
    assert find_serving(bob) == 1


def test_production_answers_over_rest(stack, bob):
    os.environ["MLFLOW_TRACKING_URI"] = stack.address
    rows = pd.read_csv(bob.root / "data/raw/test.csv", nrows=3)
    with serving(open_model("Production")) as (session, address):
        answer = session.post(
            f"{address}/invocations", data=rows.to_csv(index=False), headers={"Content-Type": "text/csv"}
        )
    assert len(answer.json()["predictions"]) == 3


def test_both_run_at_once_and_one_version_serves_and_either_rolls_back(stack, ann, bob):
    ann.set_params(ridge={"alpha": 30.0}, register={"promote": "always"})
    bob.set_params(ridge={"alpha": 40.0}, register={"promote": "always"})
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen(["dvc", "repro"], cwd=p.root, env=p.env, stdout=pipe, stderr=pipe, text=True)
        for p in (ann, bob)
    ]
    said = [process.communicate(timeout=PATIENCE) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    last = find_serving(ann)
    assert sorted(find_versions(ann)) == [1, 2, 3]
    assert {run.data.tags["mlflow.user"] for run in find_runs(ann)} == {"ann", "bob"}
    bob.stage("history", "rollback")
    assert find_serving(ann) == ({2, 3} - {last}).pop()
    assert len(ann.stage("history", "list").stdout.splitlines()) == 4


def refuse(project, *words):
    """The one line in which a command is refused."""
    done = project.stage(*words, check=False)
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if not line.startswith(" ")]
    assert line.startswith("error: MLflow at ")
    return line


def test_wrong_password_and_reader_get_one_line_each(stack, bob):
    before = find_versions(bob)
    try:
        bob.env["MLFLOW_TRACKING_USERNAME"] = "nobody"
        assert "set MLFLOW_TRACKING_USERNAME" in refuse(bob, "train", "ridge")
        mlflow.MlflowClient().set_registered_model_alias("HousePricesPredictor", "champion", "1")  # to be repaired
        stack.log_in(bob, "eve")
        assert "refuses eve: this user may not" in refuse(bob, "train", "ridge")
        assert "refuses eve: this user may not" in refuse(bob, "history", "rollback")
        assert "refuses eve: this user may not" in refuse(bob, "register")
    finally:
        stack.log_in(bob, "bob")
    bob.stage("register")
    assert find_versions(bob) == before


def test_server_that_hangs_during_a_fit_costs_no_result_and_the_store_may_restart(stack, bob):
    bob.set_params(ridge={"alpha": 7.0}, fit={"cv_folds": 50})  # which take seconds
    bob.env["MLFLOW_HTTP_REQUEST_TIMEOUT"] = "5"
    pipe = subprocess.PIPE
    train = [sys.executable, "-m", "stages.train", "ridge"]
    process = subprocess.Popen(train, cwd=bob.root, env=bob.env, stdout=pipe, stderr=pipe, text=True)
    wait_until(lambda: find_runs(bob, "RUNNING"), process)
    stack.signal(signal.SIGSTOP)
    try:
        _, warned = process.communicate(timeout=PATIENCE)
        assert process.returncode == 0
        assert "register will log its run" in warned
        assert json.loads((bob.root / "metrics/ridge.json").read_text())["test_r2"] > 0.5
        done = bob.stage("register", check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    finally:
        stack.signal(signal.SIGCONT)
        del bob.env["MLFLOW_HTTP_REQUEST_TIMEOUT"]
    stack.do("down")
    stack.do("up")
    bob.stage("register")
    assert "7.0" in [run.data.params.get("alpha") for run in find_runs(bob)]


def test_backup_brings_everything_back_after_a_wipe(stack, ann):
    stack.log_in(ann, "ann")
    runs, versions = len(find_runs(ann)), find_versions(ann)
    history = ann.stage("history", "list").stdout
    stack.do("backup", str(stack.folder / "backup"))
    stack.do("down")
    shutil.rmtree(stack.folder / "data")
    stack.do("up")
    stack.do("restore", str(stack.folder / "backup"))
    ann.run("git", "checkout", "--quiet", ".")
    shutil.rmtree(ann.root / ".dvc/cache")
    shutil.rmtree(ann.root / "models")
    ann.run("dvc", "pull", "--force")
    printed = ann.run("dvc", "repro").stdout
    assert "stages.train" not in printed
    assert "logged from DVC's files" not in printed
    assert len(find_runs(ann)) == runs
    assert find_versions(ann) == versions
    assert ann.stage("history", "list").stdout == history
    assert mlflow.get_tracking_uri() == stack.address


def test_parts_in_a_bucket_are_what_a_cluster_learns_from(stack, origin, dictionary, tmp_path):
    pytest.importorskip("distributed", reason="not installed: Dask")
    from s3fs import S3FileSystem

    generate_parts(str(ROOT / "data/raw/train.csv"), dictionary, 2, tmp_path / "parts", 2)
    reach = stack.aws | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{stack.port + 2}"}
    bucket = S3FileSystem(
        key=reach["AWS_ACCESS_KEY_ID"], secret=reach["AWS_SECRET_ACCESS_KEY"], endpoint_url=reach["AWS_ENDPOINT_URL"]
    )
    for part in (tmp_path / "parts").iterdir():
        bucket.put_file(str(part), f"dvc/parts/{part.name}")
    project = clone_project(origin, tmp_path / "clone")
    project.env |= reach
    project.set_params(data={"path": "s3://dvc/parts"}, cluster={"address": "local"})
    project.run("dvc", "repro", "prepare")
    rows = [len(pd.read_parquet(project.root / f"data/prepared/rows_{part}.parquet")) for part in ("train", "test")]
    assert sum(rows) == 2 * 1460
    assert "path: s3://dvc/parts" in (project.root / "dvc.lock").read_text()
    assert "Stage 'prepare' didn't change" in project.run("dvc", "repro", "prepare").stdout
