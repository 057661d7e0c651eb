"""The leaderboard at any time: from the files, as Markdown, and with the experiments that MLflow has."""

import json
import subprocess
import sys

import mlflow
import pytest

from tests.conftest import find_runs

pytestmark = pytest.mark.slow
TITLES = ["Ridge Regression", "Blend", "Decision Tree"]


@pytest.fixture(scope="module")
def show(finished_project):
    return lambda *args: finished_project.stage("leaderboard", *args).stdout.splitlines()


def test_the_models_here_are_shown_best_first_and_need_no_mlflow(finished_project, show):
    _, *lines, median = show()
    assert [next(title for title in TITLES if title in line) for line in lines] == finished_titles(finished_project)
    assert "(median)" in median


def finished_titles(project):
    scores = [json.loads((project.root / f"metrics/{n}.json").read_text()) for n in ("ridge", "decision_tree", "blend")]
    return [s["model"] for s in sorted(scores, key=lambda s: -s["test_r2"])]


def test_markdown_is_a_table_that_github_shows(show):
    header, rule, *lines = show("--md")
    assert header.startswith("|")
    assert set(rule) <= set("|-: ")
    assert all(line.count("|") == header.count("|") for line in lines)


def test_all_shows_each_result_in_mlflow_once_with_its_commit(finished_project, show):
    _, *lines = show("--all")
    commit = finished_project.run("git", "rev-parse", "--short=7", "HEAD~1").stdout.strip()
    assert sorted(title for title in TITLES for line in lines if title in line) == sorted(TITLES)
    assert all(commit in line for line in lines)


def test_runs_of_others_are_no_results_of_the_pipeline(registered):
    client, runs = mlflow.MlflowClient(registered.store), find_runs(registered)
    for name in ("mine", "another"):
        run = client.create_run(runs[0].info.experiment_id, run_name=name)
        client.set_terminated(run.info.run_id)
    shown = registered.stage("leaderboard", "--all").stdout
    assert "mine" not in shown
    assert "another" not in shown
    for run in runs:
        client.delete_run(run.info.run_id)
    assert registered.stage("leaderboard", "--all").stdout == "MLflow has no results yet: run `dvc repro`\n"


def test_a_reader_that_has_seen_enough_is_no_error(finished_project):
    command = f"{sys.executable} -m stages.leaderboard | head -n 0"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=finished_project.root,
        env=finished_project.env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_where_there_is_no_git_every_result_is_new(finished_project, tmp_path):
    environment = finished_project.env | {"PATH": str(tmp_path)}
    command = [sys.executable, "-m", "stages.leaderboard"]
    done = subprocess.run(
        command, cwd=finished_project.root, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.count("new") == len(TITLES)
