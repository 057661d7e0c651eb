"""Which version serves: the gate, damaged versions, rollback and its memory."""

import shutil
import sys
from types import SimpleNamespace

import mlflow
import pytest
from mlflow.entities.model_registry import ModelVersion

from stages.registry.leaderboard import format_leaderboard, rank_models
from stages.registry.promotion import decide, score_version
from stages.shared.aside import start_aside
from stages.shared.params import Register
from tests.conftest import clone_project, copy_finished, find_runs, find_versions, production_of

SETTINGS = Register(metric="test_rmse", min_test_r2=0.85, min_gain=0.0, promote="better", refit=True)
SCORES = {"test_rmse": 20_000.0, "test_r2": 0.93}


def make_version(number, **tags):
    return ModelVersion(
        "HousePricesPredictor", str(number), 0, tags=[SimpleNamespace(key=k, value=v) for k, v in tags.items()]
    )


@pytest.mark.parametrize(
    ("present", "changes", "promoted", "words"),
    [
        (21_000.0, {}, True, "test_rmse 20000.0 against 21000.0 of version 1 on the same test rows"),
        (20_000.0, {}, False, "a gain of at least 0.0 is asked"),
        (19_000.0, {}, False, "against 19000.0 of version 1"),
        (21_000.0, {"min_gain": 1500.0}, False, "a gain of at least 1500.0 is asked"),
        (21_000.0, {"min_test_r2": 0.95}, False, "test_r2 0.93, below register.min_test_r2 = 0.95"),
        (19_000.0, {"promote": "always"}, True, "register.promote = always"),
        (21_000.0, {"min_test_r2": None}, True, "against 21000.0 of version 1"),
        ("no such file", {}, True, "can't be scored: no such file"),
        ("no such file", {"min_test_r2": 0.95}, False, "below register.min_test_r2"),
    ],
)
def test_gate_compares_with_production_and_says_both_figures(present, changes, promoted, words):
    settings = SETTINGS.model_copy(update=changes)
    done, why = decide(make_version(2), make_version(1), present, SCORES, settings)
    assert done is promoted
    assert words in why


def test_first_version_needs_no_rival_but_clears_the_threshold():
    assert decide(make_version(1), None, None, SCORES, SETTINGS)[0]
    assert not decide(make_version(1), None, None, {**SCORES, "test_r2": 0.5}, SETTINGS)[0]


def test_version_that_was_rolled_back_waits_for_a_hand():
    done, why = decide(make_version(2, rolled_back="yesterday"), make_version(1), 90_000.0, SCORES, SETTINGS)
    assert not done
    assert "rolled back by hand: yesterday" in why


@pytest.fixture(scope="module")
def weak(origin, tmp_path_factory):
    """A project whose first version is of a ridge that shrinks too much; the commit before has a better result."""
    project = clone_project(origin, tmp_path_factory.mktemp("weak") / "project")
    project.run("dvc", "pull")
    project.set_params(ridge={"alpha": 2000.0})
    project.run("dvc", "repro")
    project.commit("weak")
    return project


def go_back(project):
    """Bring back the results of the commit before, which MLflow does not know yet."""
    project.run("git", "checkout", "--quiet", "HEAD~1", "--", ".")
    project.run("dvc", "checkout", "--quiet")


@pytest.fixture(scope="module")
def overtaken(weak, tmp_path_factory):
    """The same once the better result has taken its place: version 2."""
    project = copy_finished(weak, tmp_path_factory.mktemp("overtaken") / "project")
    go_back(project)
    project.run("dvc", "repro")
    return project


@pytest.mark.slow
def test_another_table_leaves_the_registered_model_alone_and_has_its_own(registered):
    kept = find_versions(registered)
    registered.set_params(data={"target": "TotRmsAbvGrd"})
    printed = registered.run("dvc", "repro").stdout
    assert "HousePricesPredictor holds models of SalePrice by data/dictionary.yaml; TotRmsAbvGrd by" in printed
    assert "new" in printed.split("since commit")[1]
    assert find_versions(registered) == kept
    registered.set_params(mlflow={"experiment": "Sizes", "registered_model": "Sizes"})
    printed = registered.run("dvc", "repro").stdout
    assert "Running stage 'train@" not in printed, "a new name trains nothing again"
    assert "Sizes: version 1 → Production" in printed
    assert registered.stage("history", "list").stdout.count("version 1") == 1
    assert find_versions(registered) == kept


def test_weak_models_come_last_and_are_marked():
    strong = {"model": "Strong", "test_r2": 0.1, "test_rmse": 8.0, "test_mae": 5.0, "median_rmse": 9.0}
    strong |= {"test_r2_low": 0.0, "test_r2_high": 0.2}
    weak = strong | {"model": "Weak", "test_rmse": 9.0, "test_mae": 1.0}
    assert rank_models({"weak": weak, "strong": strong}, "test_mae") == ["strong", "weak"]
    printed = format_leaderboard({"strong": strong, "weak": weak}, {}, strong)
    assert "Weak (weak)" in printed
    assert "Strong (weak)" not in printed


@pytest.mark.slow
def test_run_of_weak_models_goes_on_to_its_end_and_registers_nothing(registered):
    """The month of a sale cannot be told from the house."""
    kept = find_versions(registered)
    registered.set_params(data={"target": "MoSold"}, decision_tree={"min_samples_leaf": 1}, ridge={"alpha": 1e-3})
    printed = registered.run_stages("ridge", "decision_tree")
    assert printed.count("(weak)") == 3
    assert "nothing is registered: no model is better than the median" in printed
    assert find_versions(registered) == kept


@pytest.mark.slow
def test_applied_experiment_is_registered_by_the_next_repro(registered):
    printed = registered.run("dvc", "exp", "run", "--name", "worse", "-S", "ridge.alpha=2000.0").stdout
    assert "experiment worse proposes version 2, which waits: version 2 has test_r2" in printed
    assert find_versions(registered)[1] == ("Production", {"champion"})
    assert find_versions(registered)[2] == ("None", set())
    registered.run("dvc", "exp", "apply", "worse")
    printed = registered.run("dvc", "repro").stdout
    assert "Production stays version 1: version 2 has test_r2" in printed
    assert "a gain of at least 0.0 is asked" in printed
    registered.set_params(register={"promote": "always"})
    registered.run("dvc", "repro")
    assert production_of(registered) == 2
    assert find_versions(registered)[1] == ("Archived", set())


@pytest.mark.slow
def test_challenger_is_the_best_proposal_that_would_pass_and_none_once_it_serves(weak, tmp_path):
    project = copy_finished(weak, tmp_path / "project")
    go_back(project)
    project.env["DVC_EXP_NAME"] = "good"  # as in an experiment that DVC runs
    project.stage("register")
    del project.env["DVC_EXP_NAME"]
    project.run("dvc", "exp", "run", "--temp", "--name", "less", "-S", "ridge.alpha=300.0")
    found = find_versions(project)
    assert {number: aliases for number, (_, aliases) in found.items() if aliases} == {
        1: {"champion"},
        2: {"challenger"},
    }
    assert sorted(found) == [1, 2, 3]
    project.set_params(register={"promote": "ci"})
    assert "register.promote = ci proposes version 2, which would pass" in project.run("dvc", "repro").stdout
    assert production_of(project) == 1
    project.env["CI"] = "true"
    project.run("dvc", "repro")
    assert find_versions(project)[2] == ("Production", {"champion"})


@pytest.mark.slow
def test_what_a_kill_left_between_two_requests_is_settled(overtaken, tmp_path):
    """A transition without its alias and its line in the history, and a second version in Production."""
    project = copy_finished(overtaken, tmp_path / "project")
    mlflow.set_tracking_uri(project.store)
    client = mlflow.MlflowClient()
    client.transition_model_version_stage("HousePricesPredictor", "1", "Production")
    project.run("dvc", "repro")
    assert find_versions(project) == {1: ("Archived", set()), 2: ("Production", {"champion"})}
    client.transition_model_version_stage("HousePricesPredictor", "1", "Production", archive_existing_versions=True)
    project.set_params(register={"promote": "never"})
    project.run("dvc", "repro")
    assert find_versions(project)[1] == ("Production", {"champion"})
    assert project.stage("history", "list").stdout.splitlines()[-1].endswith("cut short.  ← Production")


@pytest.mark.slow
def test_candidate_waits_until_it_may_then_replaces_production_with_both_figures(weak, tmp_path):
    project = copy_finished(weak, tmp_path / "project")
    go_back(project)
    project.set_params(register={"promote": "never"})
    assert "register.promote = never" in project.run("dvc", "repro").stdout
    assert production_of(project) == 1
    project.set_params(register={"promote": "better"})
    printed = project.run("dvc", "repro").stdout
    assert "version 2 → Production. test_r2 0.9" in printed
    assert "of version 1 on the same test rows" in printed
    assert production_of(project) == 2
    description = mlflow.MlflowClient().get_model_version("HousePricesPredictor", "2").description
    assert description.startswith("Ridge Regression. Test RMSE ")
    assert "Production since 20" in description


@pytest.mark.slow
def test_damaged_production_is_reported_and_logged_anew_from_the_same_model(registered):
    for path in registered.root.glob("mlruns/**/model.skops"):
        path.write_bytes(b"broken")
    (registered.root / "mlflow.db.settled").unlink()
    printed = registered.run("dvc", "repro").stdout
    assert "what MLflow keeps of version 1 can't be used" in printed
    assert "version 1, Production until now, can't be scored" in printed
    assert production_of(registered) == 2


@pytest.mark.slow
def test_loading_production_as_readme_does_leaves_it_in_place(registered):
    """Python writes bytecode beside the code that the model brings along."""
    load = "import mlflow; mlflow.sklearn.load_model('models:/HousePricesPredictor/Production')"
    registered.run(sys.executable, "-c", load)
    assert list(registered.root.glob("mlruns/**/__pycache__/*.pyc"))
    (registered.root / "mlflow.db.settled").unlink()
    registered.stage("register")
    assert list(find_versions(registered)) == [1]


@pytest.mark.slow
def test_production_whose_files_are_gone_is_replaced(registered):
    shutil.rmtree(registered.root / "mlruns")
    printed = registered.run("dvc", "repro").stdout
    assert printed.count("logged from DVC's files") == 3
    assert production_of(registered) == 2


def find_folder(project, number, tag="dvc.model_id"):
    """Where the files of a model that a tag of a version names are."""
    mlflow.set_tracking_uri(project.store)
    tags = mlflow.MlflowClient().get_model_version("HousePricesPredictor", number).tags
    return mlflow.get_logged_model(tags[tag]).artifact_location.removeprefix("file://")


@pytest.mark.slow
def test_production_whose_judged_model_is_lost_is_scored_by_what_serves(registered, monkeypatch):
    shutil.rmtree(find_folder(registered, "1", "dvc.judged_model_id"))
    monkeypatch.chdir(registered.root)
    (version,) = mlflow.search_model_versions(filter_string="name = 'HousePricesPredictor'")
    assert score_version(version, start_aside())["test_r2"] > 0.9


@pytest.mark.slow
def test_rollback_is_remembered_and_history_tells_it(overtaken, tmp_path):
    project = copy_finished(overtaken, tmp_path / "project")
    project.stage("history", "rollback")
    assert production_of(project) == 1
    printed = project.run("dvc", "repro").stdout
    assert "version 2 was rolled back by hand" in printed
    assert production_of(project) == 1
    shutil.rmtree(find_folder(project, "2"))
    printed = project.run("dvc", "repro").stdout
    assert "what MLflow keeps of version 2 can't be used" in printed
    assert "version 3 was rolled back by hand" in printed, "its bytes are those of version 2"
    assert production_of(project) == 1
    refused = project.stage("history", "rollback", "2", check=False)
    assert refused.stderr.startswith("error: version 2 can't be used, so nothing is changed: ")
    assert production_of(project) == 1
    project.stage("history", "rollback", "3")
    assert production_of(project) == 3
    history = project.stage("history", "list").stdout.splitlines()
    assert [line.split()[2] for line in history] == ["1", "2", "1", "3"]
    assert project.stage("history", "rollback", "9", check=False).stderr.startswith("error: there is no version 9")


@pytest.mark.slow
def test_swapped_bytes_of_production_are_noticed_by_the_next_repro(registered):
    """The database is as it was; only a file of the model that serves is another's."""
    registered.stage("register")
    place = find_folder(registered, "1")
    tree = next(run for run in find_runs(registered) if run.info.run_name == "Decision Tree")
    other = mlflow.get_logged_model(tree.data.tags["dvc.model_id"]).artifact_location.removeprefix("file://")
    shutil.copy(f"{other}/model.skops", f"{place}/model.skops")
    printed = registered.run("dvc", "repro").stdout
    assert "its files are not those that were registered" in printed
    assert production_of(registered) == 2
