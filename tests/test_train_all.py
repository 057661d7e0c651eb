"""Models trained side by side, whose results DVC takes for those of their stages."""

import json

import pytest

from tests.conftest import find_runs

pytestmark = pytest.mark.slow


def test_one_that_fails_is_named_and_the_others_count(clone):
    clone.set_params(ridge={"alpha": -1.0}, decision_tree={"min_samples_leaf": 9})
    done = clone.stage("train_all", "--jobs", "2", check=False)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first.startswith("error: params.yaml: ridge.alpha = -1.0: must be")
    assert second == "error: not trained: train@ridge"
    changed = json.loads(clone.run("dvc", "status", "--json").stdout)
    assert "train@ridge" in changed
    assert "train@decision_tree" not in changed
    assert [run.info.run_name for run in find_runs(clone)] == ["Decision Tree"]
    assert clone.stage("train_all", "--jobs", "0", check=False).stderr.count("\n") == 1
