"""Names and sections → estimators, and what is refused."""

import numpy as np
import pytest

from stages.edge import InputError
from stages.models import MODELS, build_estimator, build_regressor


def build(name, **section):
    return build_regressor(name, section, seed=42, threads=1)


@pytest.mark.parametrize("name", MODELS)
def test_every_section_of_params_builds_a_model_that_learns_five_rows(name, params):
    estimator = build_estimator(build(name, **params[name]), MODELS[name], log_target=True)
    X, y = np.arange(40.0).reshape(20, 2), np.linspace(50_000, 200_000, 20)
    predicted = estimator.fit(X, y).predict(X)
    assert np.isfinite(predicted).all()
    assert (predicted > 0).all()


@pytest.mark.parametrize("name", MODELS)
def test_seed_and_threads_reach_every_class_that_takes_them(name):
    resolved = build(name).get_params()
    assert resolved.get("random_state", 42) == 42
    assert resolved.get("n_jobs", 1) == 1


@pytest.mark.parametrize(
    ("name", "key", "value", "allowed"),
    [
        ("ridge", "alpha", -1.0, "in the range"),
        ("ridge", "alhpa", 1.0, "known: alpha"),
        ("ridge", "alpha", "1e-3", "YAML reads 1e-3 as text"),
        ("lasso", "max_iter", 1.5, "int"),
        ("decision_tree", "max_depth", "deep", "int"),
        ("random_forest", "max_features", 1.5, "range"),
        ("gradient_boosting", "loss", "cubic", "huber"),
        ("xgboost", "max_depth", "seven", "int"),
        ("xgboost", "max_depth", -1, "[0, inf)"),
        ("xgboost", "max_dept", 7, "known: colsample_bylevel"),
        ("xgboost", "subsample", 0, "(0.0, 1.0]"),
        ("xgboost", "n_estimators", True, "not true or false"),
        ("lightgbm", "num_leaves", 1, "[2, 131072]"),
        ("lightgbm", "learning_rate", float("nan"), "(0.0, inf)"),
    ],
)
def test_bad_hyperparameter_is_refused_by_section_key_value_and_what_is_allowed(name, key, value, allowed):
    with pytest.raises(InputError) as error:
        build(name, **{key: value})
    assert f"{name}.{key} = {value!r}" in str(error.value)
    assert allowed in str(error.value)


def test_every_fault_of_a_section_is_listed():
    with pytest.raises(InputError, match=r"ridge\.alpha.*ridge\.colour"):
        build("ridge", alpha=-1.0, colour="red")


def test_unknown_model_lists_the_known():
    with pytest.raises(InputError, match="'svm'; known: linear, ridge"):
        build("svm")


def test_missing_section_is_named():
    with pytest.raises(InputError, match="section `ridge` is missing"):
        build_regressor("ridge", None, seed=42, threads=1)
