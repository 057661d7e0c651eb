"""What `auto` stands for: by the size of the table, or by cross-validation on it."""

import numpy as np
import pandas as pd
import pytest

from stages.model.auto import AUTO, SEARCHED, SIZED, Size, apply_rules, leave_out_auto, list_candidates, list_rules
from stages.model.search import Training, choose_folds, resolve_section
from stages.shared.params import Fit


@pytest.fixture
def fit(params):
    return Fit(**params["fit"])


def make_table(n_rows, noise, n_features=30, seed=0):
    """Rows whose target follows the first three of their features, and noise."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_features)).astype(np.float32)
    return X, np.exp(10 + 0.2 * X[:, :3].sum(axis=1) + noise * rng.normal(size=n_rows))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((32, 3), {"n_estimators": 300, "max_depth": 3, "colsample_bynode": 0.33}),
        ((1168, 173), {"n_estimators": 700, "max_depth": 4, "colsample_bynode": 0.08}),
        ((1168, 2000), {"n_estimators": 700, "max_depth": 4, "colsample_bynode": 0.05}),
        ((12_321, 166), {"n_estimators": 1000, "max_depth": 8, "colsample_bynode": 0.5}),
        ((1_000_000, 20), {"n_estimators": 1000, "max_depth": 8, "colsample_bynode": 0.5}),
    ],
)
def test_rules_follow_the_size_of_the_table(size, expected):
    section = dict.fromkeys(expected, AUTO)
    assert apply_rules("xgboost", section, Size(*size)) == expected


def test_a_large_table_is_sampled_by_the_models_that_sort_every_column():
    assert apply_rules("random_forest", {"max_samples": AUTO}, Size(1168, 173)) == {"max_samples": None}
    assert apply_rules("random_forest", {"max_samples": AUTO}, Size(100_000, 9)) == {"max_samples": 0.2}
    assert apply_rules("gradient_boosting", {"subsample": AUTO}, Size(100_000, 9)) == {"subsample": 0.1}


@pytest.mark.parametrize("name", [*SIZED, *SEARCHED])
def test_committed_params_leave_every_rule_to_the_table(params, name):
    assert {key for key, value in params[name].items() if value == AUTO} == set(list_rules(name))


def test_numbers_and_the_words_of_a_library_stay(fit):
    X, y = make_table(50, 0.1)
    section = {"alpha": 7.0, "solver": AUTO}
    assert resolve_section("ridge", section, Training(X, y), fit) == section
    assert leave_out_auto("ridge", {"alpha": AUTO, "solver": AUTO}) == {"solver": AUTO}


@pytest.mark.parametrize(
    ("name", "key"), [("ridge", "alpha"), ("lasso", "alpha"), ("decision_tree", "min_samples_leaf")]
)
def test_noise_makes_the_search_choose_more_shrinkage(fit, name, key):
    quiet, noisy = (
        resolve_section(name, {key: AUTO}, Training(*make_table(200, noise)), fit)[key] for noise in (0.01, 3.0)
    )
    assert quiet < noisy


def test_what_is_tried_for_lasso_follows_the_spread_of_the_target():
    y = np.random.default_rng(0).normal(size=100)
    small, large = (list_candidates("lasso", {"alpha": AUTO}, y * unit)["alpha"] for unit in (1, 1000))
    assert large == pytest.approx([1000 * value for value in small])
    assert all(value > 0 for value in list_candidates("lasso", {"alpha": AUTO}, np.ones(9))["alpha"])


@pytest.mark.parametrize("name", SEARCHED)
@pytest.mark.parametrize("n_rows", [2, 3, 9])
def test_a_table_of_few_rows_is_searched_too(params, fit, name, n_rows):
    resolved = resolve_section(name, params[name], Training(*make_table(n_rows, 0.1)), fit)
    assert AUTO not in resolved.values()


def test_values_are_searched_with_whole_groups_held_out(fit):
    groups = pd.Series(np.arange(60) % 3, name="group")
    folds = choose_folds(60, fit, groups)
    assert len(folds) == 3
    for fitted, held_out in folds:
        assert not set(groups.iloc[fitted]) & set(groups.iloc[held_out])
    assert len(choose_folds(60, fit, groups * 0)) == 5
