"""Names and sections → estimators, and what is refused."""

import pickle
import sys

import numpy as np
import pytest

from stages.model.catalogue import MODELS
from stages.model.estimators import build_estimator, build_regressor, round_estimator
from stages.model.search import Training, resolve_section
from stages.shared.cli import InputError
from stages.shared.params import Fit


def build(name, **section):
    return build_regressor(name, section, seed=42, threads=1)


@pytest.mark.parametrize("name", MODELS)
def test_every_section_of_params_builds_a_model_that_learns_five_rows(name, params):
    X, y = np.arange(40.0).reshape(20, 2), np.linspace(50_000, 200_000, 20)
    section = resolve_section(name, params[name], Training(X, y), Fit(**params["fit"]))
    estimator = build_estimator(build(name, **section), MODELS[name], log_target=True)
    predicted = estimator.fit(X, y).predict(X)
    assert np.isfinite(predicted).all()
    assert (predicted > 0).all()


def test_a_linear_booster_learns_too():
    X, y = np.arange(40.0).reshape(20, 2), np.linspace(50_000, 200_000, 20)
    estimator = build_estimator(build("xgboost", booster="gblinear"), MODELS["xgboost"], log_target=True).fit(X, y)
    round_estimator(estimator)
    assert np.isfinite(estimator.predict(X)).all()


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
        ("xgboost", "max_depth", "seven", "expect int"),
        ("xgboost", "max_depth", -1, "greater equal to 0"),
        ("xgboost", "max_dept", 7, "known: base_score"),
        ("xgboost", "subsample", 0, "above 0"),
        ("xgboost", "n_estimators", -5, "at least 1"),
        ("xgboost", "n_estimators", True, "must not be true or false"),
        ("lightgbm", "num_leaves", 1, "(num_leaves) > (1)"),
        ("lightgbm", "num_leafs", 4, "Unknown parameter: num_leafs"),
        ("ridge", "solver", "lbfgs", "positive=True"),
        ("lightgbm", "learning_rate", float("nan"), "finite"),
        ("ridge", "tol", "auto", "auto may stand for alpha here"),
        ("linear", "positive", "auto", "auto may stand for nothing here"),
        ("decision_tree", "max_leaf_nodes", "auto", "auto may stand for min_samples_leaf here"),
        ("xgboost", "subsample", "auto", "auto may stand for n_estimators, max_depth, colsample_bynode here"),
        ("lightgbm", "learning_rate", "auto", "auto may stand for n_estimators, num_leaves"),
    ],
)
def test_bad_hyperparameter_is_refused_by_section_key_value_and_what_is_allowed(name, key, value, allowed):
    with pytest.raises(InputError) as error:
        build(name, **{key: value})
    assert f"{name}.{key} = {value!r}" in str(error.value)
    assert allowed in str(error.value)


@pytest.mark.parametrize(
    ("name", "key", "value"), [("xgboost", "num_parallel_tree", 2), ("lightgbm", "min_sum_hessian_in_leaf", 0.1)]
)
def test_any_parameter_of_the_class_is_taken(name, key, value):
    assert build(name, **{key: value}).get_params()[key] == value


def test_every_fault_of_a_section_is_listed():
    with pytest.raises(InputError, match=r"ridge\.alpha.*ridge\.colour|ridge\.colour"):
        build("ridge", alpha=-1.0, colour="red")


def test_unknown_model_lists_the_known():
    with pytest.raises(InputError, match="'svm'; known: linear, ridge"):
        build("svm")


def test_the_bytes_of_a_model_do_not_depend_on_which_strings_name_its_parameters():
    def dump(key):
        return pickle.dumps(build("lightgbm", **{key: 7}))

    fresh = "".join(["max", "_", "bin"])
    assert fresh is not sys.intern("max_bin")
    assert dump(fresh) == dump(sys.intern("max_bin"))
