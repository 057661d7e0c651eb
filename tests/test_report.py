"""What a reviewer gets to see of a pull request: the report, its one comment, and the workflow that runs both."""

import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, find_runs

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yaml"))


@pytest.fixture
def change(clone):
    """A clone of a small project, with `make` set up, on a branch whose commit asks for another alpha."""
    (clone.root / ".venv").symlink_to(Path(sys.executable).parent.parent)
    (clone.root / ".git/info/exclude").write_text("/.venv\n")
    clone.run("make", "--touch", ".venv/ready")
    clone.run("git", "branch", "base")
    clone.set_params(ridge={"alpha": 5.0})
    clone.commit("ridge: less shrinkage")
    return clone


def report(project, base="base", check=True):
    return project.run("make", "report", f"BASE={base}", check=check)


def read_report(project):
    return (project.root / "report/report.md").read_text()


@pytest.mark.slow
def test_report_shows_what_a_change_does_and_leaves_the_own_store_alone(change):
    report(change)
    said = read_report(change)
    for part in ("ridge: less shrinkage", "`dvc.lock` or `metrics/` is not what", "### Leaderboard", "<details>"):
        assert part in said
    assert re.search(r"\| params.yaml +\| ridge.alpha +\| auto +\| 5.0 +\|", said)
    assert re.search(r"\| metrics/ridge.json +\| cv_rmsle|\| metrics/ridge.json +\| test_rmse", said)
    assert "| Ridge Regression" in said
    plots = (change.root / "report/plots/index.html").read_text()
    assert "rmse" in plots
    assert not (change.root / "mlflow.db").exists()
    assert not (change.root / "mlruns").exists()
    change.commit("what it gives")
    change.run("git", "branch", "--force", "base")
    report(change)
    said = read_report(change)
    assert said.count("Nothing has changed.") == 2
    assert "is not what" not in said
    change.run("dvc", "repro")
    assert len(find_runs(change)) == 3  # the store of the report was another


@pytest.mark.slow
def test_a_change_that_fails_is_reported_and_an_unknown_base_is_one_line(change):
    refused = report(change, "nowhere", check=False)
    assert refused.stderr.startswith("error: nowhere: not a branch or commit")
    change.set_params(ridge={"alpha": -1.0})
    failed = report(change, check=False)
    assert failed.returncode != 0
    assert "error: dvc repro failed; see report/report.md" in failed.stderr
    assert "ridge.alpha" in read_report(change)


@contextmanager
def github(comments, status=None):
    """GitHub's three addresses for comments, on this machine; {number: text}. With a status, every write gets it."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self, code, content, **headers):
            body = json.dumps(content).encode()
            self.send_response(code)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def write(self, number):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"]
            if status is None:
                comments[number] = body
            self.answer(status or 200, {})

        def do_GET(self):
            assert self.headers["Authorization"] == "Bearer word"
            assert self.path.startswith("/repos/o/r/issues/7/comments")
            second = self.path.endswith("&page=2")
            found = [{"id": number, "body": text} for number, text in comments.items()]
            link = {} if second else {"Link": f'<http://{self.headers["Host"]}{self.path}&page=2>; rel="next"'}
            self.answer(200, found[2:] if second else found[:2], **link)

        def do_POST(self):
            assert self.path == "/repos/o/r/issues/7/comments"
            self.write(max(comments) + 1)

        def do_PATCH(self):
            self.write(int(self.path.removeprefix("/repos/o/r/issues/comments/")))

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def comment(tmp_path, address, text):
    path = tmp_path / "report.md"
    path.write_text(f"<!-- report -->\n{text}")
    own = {"GITHUB_API_URL": address, "GITHUB_REPOSITORY": "o/r", "GITHUB_TOKEN": "word", "PULL_REQUEST": "7"}
    return subprocess.run(
        [sys.executable, ROOT / ".ci/comment.py", path],
        env=os.environ | own,
        capture_output=True,
        text=True,
        check=False,
    )


def test_one_comment_is_made_and_then_replaced(tmp_path):
    comments = {1: "hello", 2: "a report?", 3: "another"}
    with github(comments) as address:
        assert comment(tmp_path, address, "first").returncode == 0
        assert comment(tmp_path, address, "long" * 50_000).returncode == 0
        assert len(comments[4]) < 65_536
        assert comment(tmp_path, address, "last").returncode == 0
    assert comments == {1: "hello", 2: "a report?", 3: "another", 4: "<!-- report -->\nlast"}


def test_a_token_that_may_not_write_is_no_error_and_a_broken_server_is(tmp_path):
    comments = {1: "hello"}
    with github(comments, 403) as address:
        done = comment(tmp_path, address, "first")
    assert (done.returncode, comments) == (0, {1: "hello"})
    assert "summary of the job" in done.stdout
    with github(comments, 500) as address:
        assert comment(tmp_path, address, "first").returncode != 0


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_what_a_workflow_runs_exists_and_it_may_do_no_more_than_it_must(path):
    content = yaml.safe_load(path.read_text())
    targets = re.findall(r"^([\w./-]+):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    steps = [step for job in content["jobs"].values() for step in job["steps"]]
    commands = [step["run"] for step in steps if "run" in step]
    assert commands
    for command in commands:
        for name in re.findall(r"\.ci/[\w.]+", command):
            assert (ROOT / name).is_file(), name
        for target in re.findall(r"\bmake (\S+)", command):
            assert target in targets, target
        assert "${{" not in command, "what others write goes by the environment, not into a command"
    assert all(re.fullmatch(r"[\w/-]+@v\d+", step["uses"]) for step in steps if "uses" in step)
    assert "pull_request_target" not in content[True]  # YAML reads `on` so; it would lend secrets to a fork's code
    assert content["permissions"] == {"contents": "read"} | (
        {"pull-requests": "write"} if path.stem == "report" else {}
    )
