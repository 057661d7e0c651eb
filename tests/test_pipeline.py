"""The whole pipeline as a person runs it: the real table, the real dvc, the real mlflow."""

import hashlib
import json
import re

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml

from tests.conftest import ROOT, copy_finished

pytestmark = pytest.mark.slow

# The mission's table: test R² that each model must beat on the 292 test rows. (Its RMSE are of another split: there,
# R² .8956 stands beside 25,123 dollars, which is R² .9177 here.)
MISSION = {
    "Linear Regression": 0.8234,
    "Ridge Regression": 0.8456,
    "Lasso Regression": 0.8398,
    "Decision Tree": 0.7956,
    "Random Forest": 0.8734,
    "Gradient Boosting": 0.8678,
    "XGBoost": 0.8956,
    "Blend": 0.924,  # not in the table
    "LightGBM": 0.8912,
}
SIX = {f"{part}_{metric}" for part in ("train", "test") for metric in ("rmse", "mae", "r2")}


def find_runs(project, **kwargs):
    mlflow.set_tracking_uri(project.store)
    return mlflow.search_runs(experiment_names=["House-Prices-Regression"], output_format="list", **kwargs)


def read_metrics(project, name):
    return json.loads((project.root / "metrics" / f"{name}.json").read_text())


def test_committed_results_are_those_of_the_committed_code(whole_project):
    changed = whole_project.run("git", "status", "--porcelain").stdout
    assert changed == "", (
        f"dvc repro --force changed what git has:\n{changed}\n{whole_project.run('git', 'diff').stdout[:3000]}"
    )


def test_no_library_warns_on_a_normal_run(whole_project):
    assert "warning" not in whole_project.printed.lower()


def test_eight_finished_runs_with_the_missions_names(whole_project):
    runs = find_runs(whole_project)
    assert {run.info.run_name for run in runs} == set(MISSION)
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        assert set(run.data.metrics) >= SIX | {"predict_seconds_per_row"}
        assert run.data.params["model_name"] == run.info.run_name


def test_every_model_beats_its_row_of_the_missions_table(whole_project):
    names = yaml.safe_load((whole_project.root / "dvc.yaml").read_text())["vars"][0]["train"]["models"]
    scores = [read_metrics(whole_project, name) for name in [*names, "blend"]]
    assert all(s["test_r2"] > MISSION[s["model"]] for s in scores)
    assert max(s["test_r2"] for s in scores) > 0.93


def test_run_holds_params_dataset_signature_and_safe_model(whole_project):
    run = next(run for run in find_runs(whole_project) if run.info.run_name == "XGBoost")
    section = yaml.safe_load((whole_project.root / "params.yaml").read_text())["xgboost"]
    used = {"n_estimators": 700, "max_depth": 4, "colsample_bynode": 0.08}  # in place of auto
    assert {key: run.data.params[key] for key in section} == {k: str(v) for k, v in (section | used).items()}
    dataset = run.inputs.dataset_inputs[0].dataset
    assert dataset.digest == hashlib.md5((whole_project.root / "data/raw/train.csv").read_bytes()).hexdigest()
    model = mlflow.models.get_model_info(f"runs:/{run.info.run_id}/model")
    assert len(model.signature.inputs.input_names()) == 79
    assert model.flavors["sklearn"]["serialization_format"] == "skops"
    assert model.saved_input_example_info


def test_production_is_the_best_current_model_and_predicts_raw_rows(whole_project):
    champion = json.loads((whole_project.root / "metrics/champion.json").read_text())
    mlflow.set_tracking_uri(whole_project.store)
    (version,) = mlflow.search_model_versions(filter_string="name = 'HousePricesPredictor'")
    assert version.current_stage == "Production"
    assert mlflow.get_run(version.run_id).info.run_name == champion["model"]
    model = mlflow.pyfunc.load_model("models:/HousePricesPredictor/Production")
    prices = model.predict(pd.read_csv(ROOT / "data/raw/test.csv"))
    assert len(prices) == 1459
    assert np.isfinite(prices).all()
    assert (prices > 10_000).all()


def test_model_card_says_how_good_where_wrong_and_how_to_get_it_again(whole_project):
    champion = json.loads((whole_project.root / "metrics/champion.json").read_text())
    card = (whole_project.root / "metrics/champion.md").read_text()
    assert f"Test RMSE {champion['test_rmse']:,.0f} dollars" in card
    predictions = pd.read_csv(
        whole_project.root / "scores/models" / champion["name"] / "predictions.csv", index_col="Id"
    )
    worst = predictions["residual"].abs().nlargest(10)
    assert all(f"| {row_id} " in card for row_id in worst.index)
    md5 = hashlib.md5((whole_project.root / "models/champion").read_bytes()).hexdigest()
    assert md5 in card
    mlflow.set_tracking_uri(whole_project.store)
    (version,) = mlflow.search_model_versions(filter_string="name = 'HousePricesPredictor'")
    assert mlflow.artifacts.load_text(f"runs:/{version.run_id}/champion.md") == card
    assert version.description.startswith(f"{champion['model']}. Test RMSE {champion['test_rmse']:,.0f}")


def test_another_repro_changes_nothing(whole_project):
    before = (whole_project.root / "dvc.lock").read_bytes(), len(find_runs(whole_project))
    printed = whole_project.run("dvc", "repro").stdout
    assert "nothing has changed since MLflow was last brought in line" in printed
    assert before == ((whole_project.root / "dvc.lock").read_bytes(), len(find_runs(whole_project)))
    assert len(mlflow.search_model_versions(filter_string="name = 'HousePricesPredictor'")) == 1


def test_one_parameter_runs_its_model_and_register_and_nothing_else(whole_project):
    printed = whole_project.run(
        "dvc", "exp", "run", "-S", "xgboost.max_depth=2", "-S", "xgboost.n_estimators=50"
    ).stdout
    ran = re.findall(r"^> python -m stages\.(train \w+|\w+)", printed, re.MULTILINE)
    assert ran == ["train xgboost", "blend", "champion", "register"]
    whole_project.run("git", "checkout", "--quiet", ".")
    whole_project.run("dvc", "checkout")


def test_another_table_needs_only_a_dictionary_of_one_line(project):
    rng = np.random.default_rng(0)
    size, colour = rng.uniform(1, 9, 400), rng.choice(["red", "blue", None], 400)
    table = pd.DataFrame(
        {"size": size, "colour": colour, "new": rng.random(400) > 0.5, "cost": 10 + 5 * size + 3 * (colour == "red")}
    )
    table.loc[3, "size"] = None
    table.to_csv(project.root / "data/raw/toys.csv", index=False)
    (project.root / "data/toys.yaml").write_text("target: cost\n")
    project.set_params(data={"path": "data/raw/toys.csv", "dictionary": "data/toys.yaml"}, fit={"cv_folds": 0})
    assert "Ridge Regression" in project.run_stages("ridge", "decision_tree", "lightgbm")
    assert read_metrics(project, "ridge")["test_r2"] > 0.8


BAD_TABLES = {
    "empty file": (lambda path: path.write_text(""), "empty"),
    "header only": (lambda path: path.write_text(path.read_text().splitlines()[0] + "\n"), "no rows"),
    "not a table": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff"), "not UTF-8 text"),
    "three rows": (lambda path: path.write_text("\n".join(path.read_text().splitlines()[:4]) + "\n"), "holds no value"),
    "text for a number": (lambda path: path.write_text(path.read_text().replace(",8450,", ",big,")), "'big'"),
}


@pytest.mark.parametrize("fault", BAD_TABLES)
def test_bad_table_leaves_everything_as_it_was(small_finished, fault):
    spoil, words = BAD_TABLES[fault]
    kept = take_state(small_finished)
    spoil(small_finished.root / "data/raw/train.csv")
    done = small_finished.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    small_finished.run("git", "checkout", "--quiet", "data")
    assert take_state(small_finished) == kept


def test_missing_table_is_named(small_finished):
    """DVC itself stops here, after it took prepare's outputs away: `dvc checkout` brings them back."""
    kept = take_state(small_finished)
    (small_finished.root / "data/raw/train.csv").unlink()
    by_hand = small_finished.stage("prepare", check=False)
    assert (by_hand.returncode, by_hand.stderr) == (1, "error: data/raw/train.csv: no such file\n")
    by_dvc = small_finished.run("dvc", "repro", check=False)
    assert "data/raw/train.csv" in by_dvc.stderr
    small_finished.run("git", "checkout", "--quiet", "data")
    small_finished.run("dvc", "checkout")
    assert take_state(small_finished) == kept


BAD_PARAMS = {
    "test_size": ({"data": {"test_size": 1.5}}, "data.test_size = 1.5"),
    "too few test rows": ({"data": {"test_size": 0.0001}}, "leave 1459 to train on and 1 to test on"),
    "hyperparameter": ({"ridge": {"alpha": "much"}}, "ridge.alpha = 'much'"),
    "metric": ({"register": {"metric": "test_r3"}}, "known: train_rmse"),
}


@pytest.mark.parametrize("fault", BAD_PARAMS)
def test_bad_parameter_leaves_everything_as_it_was(small_finished, fault):
    changes, words = BAD_PARAMS[fault]
    kept = take_state(small_finished)
    small_finished.set_params(**changes)
    done = small_finished.run("dvc", "repro", check=False)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    small_finished.run("git", "checkout", "--quiet", "params.yaml")
    assert take_state(small_finished) == kept


def test_unreachable_store_is_named_and_no_model_is_lost(small_finished):
    kept = take_state(small_finished)
    small_finished.set_params(ridge={"alpha": 3.0})
    small_finished.env["MLFLOW_TRACKING_URI"] = "http://127.0.0.1:9"
    done = small_finished.run("dvc", "repro", check=False)
    del small_finished.env["MLFLOW_TRACKING_URI"]
    assert done.returncode != 0
    assert "http://127.0.0.1:9" in done.stderr
    assert take_state(small_finished) == kept
    small_finished.run("git", "checkout", "--quiet", "params.yaml")


def test_unknown_model_lists_the_known(small_finished):
    done = small_finished.stage("train", "svm", check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown model 'svm'; known: linear")


@pytest.fixture(scope="module")
def small_finished(origin, tmp_path_factory):
    """Two quick models, trained and committed."""
    return copy_finished(origin, tmp_path_factory.mktemp("small") / "project")


def take_state(project):
    """Every output's bytes, the lock, and what MLflow has of finished runs and versions."""
    files = [
        p
        for folder in ("data/prepared", "models", "metrics", "plots", "scores")
        for p in sorted((project.root / folder).rglob("*"))
    ]
    hashes = {
        str(p): hashlib.md5(p.read_bytes()).hexdigest() for p in [*files, project.root / "dvc.lock"] if p.is_file()
    }
    runs = sorted(run.info.run_id for run in find_runs(project, filter_string="attributes.status = 'FINISHED'"))
    versions = mlflow.search_model_versions(filter_string="name = 'HousePricesPredictor'")
    return hashes, runs, sorted((v.version, v.current_stage) for v in versions)
