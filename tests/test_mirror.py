"""MLflow mirrors DVC: provenance, rebuilding from a clone, experiments, queues, earlier results, parallel runs."""

import shutil
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest

from stages.shared.files import hash_file
from tests.conftest import clone_project, find_runs, find_versions, production_of

pytestmark = pytest.mark.slow

TIMINGS = {"fit_seconds", "predict_seconds_per_row"}  # facts of one execution, which DVC does not keep
SESSION_TAGS = ("mlflow.", "dvc.model_id", "dvc.process", "dvc.rebuilt")


def compare(run):
    """What must be equal between a run and the same run rebuilt."""
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith(SESSION_TAGS)}
    metrics = {key: value for key, value in run.data.metrics.items() if key not in TIMINGS}
    return run.info.run_name, run.data.params, metrics, tags


def read_provenance(run):
    return mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/provenance.json")


def list_origins(project, runs):
    """What each run was made from and consists of; the commit in which it was written is another in a clone."""
    mlflow.set_tracking_uri(project.store)
    found = {name: read_provenance(run) for name, run in runs.items()}
    return {name: (each["stage"], each["inputs"], each["outputs"]) for name, each in found.items()}


def predict(run, project):
    rows = pd.read_parquet(project.root / "data/prepared/rows_test.parquet")
    return mlflow.pyfunc.load_model(f"runs:/{run.info.run_id}/model").predict(rows)


SHOW = """
import sys
from stages import history
from stages.tracking.connection import connect

connect()
for key in sys.argv[1:]:
    history.show(key)
    print(end="\f")
"""


def show(project, *keys):
    """What `history show` prints of each key, all from one process."""
    return project.run(sys.executable, "-c", SHOW, *keys).stdout.split("\f")[:-1]


def test_run_version_and_lock_lead_to_each_other(origin):
    lock = (origin.root / "dvc.lock").read_text()
    for run in find_runs(origin):
        tags = run.data.tags
        assert tags["dvc.model_md5"] in lock
        assert tags["dvc.metrics_md5"] in lock
        assert tags["dvc.stage"].startswith(("train@", "blend"))
        assert len(tags["mlflow.source.git.commit"]) == 40
        provenance = read_provenance(run)
        assert set(provenance["inputs"]) == {"data/raw/train.csv", "data/dictionary.yaml", "data/prepared"}
        assert all(md5 in lock for md5 in [*provenance["inputs"].values(), *provenance["outputs"].values()])
        assert provenance["commit"] == tags["mlflow.source.git.commit"]
        for shown in show(origin, tags["dvc.model_md5"], run.info.run_id):
            assert run.info.run_id in shown
            assert tags["dvc.model_md5"] in shown
            assert provenance["inputs"]["data/prepared"] in shown
    served = hash_file(origin.root / "models/champion")
    for shown in show(origin, "1", served):
        assert "Production" in shown
        assert f"# version 1 serves champion, model {served}:" in shown
        assert "dvc checkout models/champion || dvc pull models/champion" in shown


def test_the_lines_that_show_prints_bring_the_bytes_back(origin, tmp_path):
    run = next(run for run in find_runs(origin) if run.info.run_name == "Ridge Regression")
    shown = origin.stage("history", "show", run.info.run_id).stdout
    lines = [line.strip() for line in shown.partition("bring its files back:\n")[2].splitlines()]
    clone = clone_project(origin, tmp_path / "clone")
    for line in lines:
        clone.run("bash", "-c", line)
    kept = (origin.root / "models/ridge").read_bytes()
    assert (clone.root / "models/ridge").read_bytes() == kept


def bring_by_merge(clone):
    """Give a clone a history in which a merge, and no other commit, brought its dvc.lock."""
    lock, branch = (clone.root / "dvc.lock").read_text(), clone.run("git", "branch", "--show-current").stdout.strip()
    clone.run("git", "checkout", "--quiet", "--orphan", "ours")
    (clone.root / "dvc.lock").unlink()
    clone.commit("no results")
    clone.run("git", "remote", "remove", "origin")
    clone.run("git", "branch", "--quiet", "--delete", "--force", branch)
    clone.run("git", "checkout", "--quiet", "-b", "theirs")
    clone.run("git", "commit", "--quiet", "--allow-empty", "--message", "theirs")
    clone.run("git", "checkout", "--quiet", "ours")
    clone.run("git", "merge", "--quiet", "--no-ff", "--no-commit", "theirs")
    (clone.root / "dvc.lock").write_text(lock)
    clone.commit("merged")


def test_the_lines_on_the_pages_of_run_and_version_bring_the_bytes_back_whatever_the_newest_commit(origin, tmp_path):
    (version,) = mlflow.search_model_versions(filter_string="name = 'HousePricesPredictor'")
    run = next(run for run in find_runs(origin) if run.info.run_name == "Ridge Regression")
    clone = clone_project(origin, tmp_path / "clone")
    bring_by_merge(clone)
    (clone.root / "dvc.lock").unlink()
    clone.commit("a later commit without these results")
    for name, page in (("ridge", run.data.tags["mlflow.note.content"]), ("champion", version.description)):
        clone.run("bash", "-ec", page.partition("```bash\n")[2].partition("```")[0])
        assert (clone.root / f"models/{name}").read_bytes() == (origin.root / f"models/{name}").read_bytes()


def test_clone_and_pull_rebuild_equal_runs_without_training(origin, clone):
    printed = clone.run("dvc", "repro").stdout
    assert "python -m stages.train" not in printed
    assert printed.count("logged from DVC's files") == 3
    originals, rebuilt = ({run.info.run_name: run for run in find_runs(p)} for p in (origin, clone))
    assert {n: compare(r) for n, r in originals.items()} == {n: compare(r) for n, r in rebuilt.items()}
    assert all(run.data.tags["dvc.rebuilt"] == "true" for run in rebuilt.values())
    assert list_origins(origin, originals) == list_origins(clone, rebuilt)
    again = {name: predict(run, clone) for name, run in rebuilt.items()}
    find_runs(origin)
    for name, run in originals.items():
        np.testing.assert_array_equal(predict(run, origin), again[name])
    assert production_of(clone) == 1


def test_lost_store_is_rebuilt(registered):
    (registered.root / "mlflow.db").unlink()
    shutil.rmtree(registered.root / "mlruns")
    registered.run("dvc", "repro")
    assert len(find_runs(registered)) == 3
    assert production_of(registered) == 1


def test_experiment_in_a_temporary_folder_logs_to_the_projects_store(registered):
    registered.run("dvc", "exp", "run", "--temp", "--name", "aside", "-S", "ridge.alpha=5.0")
    (run,) = [run for run in find_runs(registered) if run.data.params.get("alpha") == "5.0"]
    assert run.data.tags["dvc.exp_name"] == "aside"
    note = run.data.tags["mlflow.note.content"]
    assert "Experiment `aside`" in note
    assert "`ridge.alpha` auto → 5.0." in note
    assert predict(run, registered).shape == (292,)
    assert find_versions(registered)[1][0] == "Production"


def test_queue_is_the_first_use_of_mlflow_and_loses_no_run(clone):
    for alpha in ("5.0", "6.0"):
        clone.run("dvc", "exp", "run", "--queue", "-S", f"ridge.alpha={alpha}")
    clone.run("dvc", "queue", "start", "--jobs", "2")  # its workers keep its output open, so this returns at their end
    assert clone.run("dvc", "queue", "status").stdout.count("Success") == 2
    trained = [
        run.data.params["alpha"]
        for run in find_runs(clone)
        if "dvc.rebuilt" not in run.data.tags and "alpha" in run.data.params
    ]
    assert sorted(trained) == ["5.0", "6.0"]


def test_earlier_result_that_dvc_checks_out_is_found_not_lost(registered):
    registered.set_params(ridge={"alpha": 5.0})
    registered.run("dvc", "repro")
    registered.commit("alpha 5")
    before = len(find_runs(registered))
    registered.run("git", "checkout", "--quiet", "HEAD~1", "--", ".")
    registered.run("dvc", "checkout")
    printed = registered.run("dvc", "repro").stdout
    assert "python -m stages.train" not in printed
    assert "logged from DVC's files" not in printed
    assert len(find_runs(registered)) == before
    (registered.root / "mlflow.db").unlink()
    assert "Ridge Regression was not in MLflow; logged from DVC's files" in registered.run("dvc", "repro").stdout


def test_jobs_side_by_side_on_a_fresh_store_give_the_same_lock(origin, tmp_path):
    project = clone_project(origin, tmp_path / "clone")
    (project.root / ".venv").symlink_to(Path(sys.executable).parent.parent)
    done = project.run("make", "--touch", ".venv/ready", check=False)
    project.run("make", "repro", "JOBS=2")
    assert done
    assert (project.root / "dvc.lock").read_text() == (origin.root / "dvc.lock").read_text()
    assert len(find_runs(project)) == 3


@pytest.mark.slow
def test_settings_that_change_while_register_runs_are_not_taken_for_registered(registered):
    code = """
import sys
from stages import register
from stages.tracking import store
inputs = register.list_inputs()
asked = store.hash_files(inputs)
open("params.yaml", "a").write(sys.argv[1])
store.remember_state(asked, [])
print(store.is_in_line(inputs))
"""
    said = [registered.run(sys.executable, "-c", code, text).stdout.strip() for text in ("", "# later")]
    assert said == ["True", "False"]
