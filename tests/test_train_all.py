"""Models trained side by side, whose results DVC takes for those of their stages."""

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress

import psutil
import pytest

from stages.shared.cli import InputError
from stages.train_all import find_changed, hash_settings, read_models
from tests.conftest import clone_project, find_runs, production_of
from tests.server import PATIENCE, wait_until

pytestmark = pytest.mark.slow


def test_one_that_fails_is_named_and_the_others_count(clone):
    clone.set_params(ridge={"alpha": -1.0}, decision_tree={"min_samples_leaf": 9})
    done = clone.stage("train_all", "--jobs", "2", check=False)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("error: params.yaml: ridge.alpha = -1.0: must be")
    assert second == "error: not done: train@ridge"
    changed = json.loads(clone.run("dvc", "status", "--json").stdout)
    assert "train@ridge" in changed
    assert "train@decision_tree" not in changed
    assert [run.info.run_name for run in find_runs(clone)] == ["Decision Tree"]
    assert clone.stage("train_all", "--jobs", "0", check=False).stderr.count("\n") == 1


def start(project, *words):
    """The command in the background, in a group of its own."""
    command, pipe = [sys.executable, "-m", "stages.train_all", *words], subprocess.PIPE
    options = {"cwd": project.root, "env": project.env, "text": True, "start_new_session": True}
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, **options)


def is_at_work(process, module):
    """Whether a process below this one runs a module."""
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if module in child.cmdline():
                return True
    return False


@pytest.mark.parametrize("name", ["params.yaml", "stages/model/folds.py"])
def test_settings_that_change_meanwhile_are_not_taken_for_those_of_what_was_trained(registered, name):
    registered.set_params(ridge={"alpha": 7.0}, fit={"cv_folds": 50})  # which take seconds
    lock, file = (registered.root / "dvc.lock").read_text(), registered.root / name
    process = start(registered)
    wait_until(lambda: find_runs(registered, "RUNNING"), process)
    file.write_text(f"{file.read_text()}# another\n")
    _, said = process.communicate(timeout=PATIENCE)
    told = "stages/" if name.startswith("stages") else name
    assert (process.returncode, said) == (
        1,
        f"error: {told} was changed meanwhile: nothing is recorded; run the same again\n",
    )
    assert (registered.root / "dvc.lock").read_text() == lock


def test_settings_that_change_while_prepare_runs_stop_what_would_rest_on_them(registered):
    registered.set_params(data={"seed": 43})
    process = start(registered)
    wait_until(lambda: is_at_work(process, "stages.prepare"), process)
    registered.set_params(data={"seed": 44})
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert said.splitlines()[-1].startswith("error: params.yaml was changed while prepare ran: run `dvc repro --force")
    assert len(find_runs(registered)) == 3  # those from before


def test_what_is_done_when_it_is_interrupted_need_not_be_done_again(registered):
    registered.set_params(ridge={"alpha": 7.0}, decision_tree={"min_samples_leaf": 9}, fit={"cv_folds": 50})
    process = start(registered, "--jobs", "1")
    wait_until(lambda: [run.info.run_name for run in find_runs(registered, "RUNNING")] == ["Ridge Regression"], process)
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    changed = json.loads(registered.run("dvc", "status", "--json").stdout)
    assert "train@ridge" in changed
    assert "train@decision_tree" not in changed


def test_a_model_that_stands_twice_is_refused(clone):
    clone.keep_models("ridge", "decision_tree", "ridge")
    done = clone.stage("train_all", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: models ridge decision_tree ridge: one stands twice"
    assert find_runs(clone) == []


@pytest.mark.parametrize("models", [[], ["ridge"]])
def test_models_are_found_behind_other_variables_and_must_be_some(tmp_path, monkeypatch, models):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.yaml").write_text(f"vars:\n  - train.yaml\n  - seed: 1\n  - train: {{models: {models}}}\n")
    if models:
        assert read_models() == models
    else:
        with pytest.raises(InputError, match=r"dvc\.yaml: no models are listed under vars: train"):
            read_models()


def test_settings_that_are_gone_at_the_end_are_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stages").mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text("a: 1\n")
    asked = hash_settings()
    assert find_changed(asked) is None
    (tmp_path / "params.yaml").unlink()
    assert find_changed(asked) == "params.yaml"


def test_a_kill_between_training_and_its_record_is_mended_by_the_next_repro(origin, tmp_path):
    project = clone_project(origin, tmp_path / "clone")
    process = start(project, "--jobs", "1")
    try:
        assert any("on the test rows" in line for line in process.stdout)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    project.run("dvc", "repro")
    assert (project.root / "dvc.lock").read_text() == (origin.root / "dvc.lock").read_text()
    assert find_runs(project, "RUNNING") == []
    assert production_of(project) == 1
