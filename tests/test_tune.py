"""The search: resumable, visible in MLflow, and its winner in params.yaml with the comments still there."""

import mlflow
import pytest
import yaml

from stages.shared.params import write_params
from stages.tune import SPACES

pytestmark = pytest.mark.slow


def test_search_goes_on_where_it_stopped_and_writes_a_winner_that_beats_the_present(small_project):
    small_project.run("dvc", "repro", "prepare")
    params = small_project.root / "params.yaml"
    small_project.set_params(ridge={"alpha": 5000.0})
    first = small_project.stage("tune", "ridge", "--trials", "2", "--repeats", "1").stdout
    assert "trial 0" in first
    assert "beats" in first
    low, high, _ = SPACES["ridge"]["alpha"]
    assert low <= yaml.safe_load(params.read_text())["ridge"]["alpha"] <= high
    second = small_project.stage("tune", "ridge", "--trials", "1", "--repeats", "1").stdout
    assert "trial 2" in second
    assert "trial 0" not in second
    small_project.set_params(fit={"seed": 43})
    assert "trial 0" in small_project.stage("tune", "ridge", "--trials", "1", "--repeats", "1").stdout
    mlflow.set_tracking_uri(small_project.store)
    runs = mlflow.search_runs(experiment_names=["House-Prices-Regression-Tuning"], output_format="list")
    nested = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(runs) - len(nested) == 3
    assert {run.info.run_name for run in nested} == {"trial 0", "trial 1", "trial 2"}


def test_search_for_a_model_without_hyperparameters_says_so(small_project):
    done = small_project.stage("tune", "linear", check=False)
    assert (done.returncode, done.stderr) == (1, "error: Linear Regression has nothing to search\n")


def test_winner_leaves_comments_and_order_alone(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text("# first\nridge: # of all\n  alpha: 1.0 # strength\nlasso:\n  alpha: null # none\n")
    write_params({"ridge": {"alpha": 3.5}}, str(path))
    assert path.read_text() == "# first\nridge: # of all\n  alpha: 3.5 # strength\nlasso:\n  alpha: null # none\n"
