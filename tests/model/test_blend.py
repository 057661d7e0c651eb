"""The blend: chosen out of fold, never worse than its best member, and one pipeline for all members."""

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeRegressor

from stages.model.blend import Blend, choose_weights, weigh
from stages.model.blending import validate
from stages.model.folds import draw_folds
from stages.model.metrics import rmse
from stages.shared.params import Fit

FOLDS = draw_folds(300, Fit(log_target=False, cv_folds=5, threads=1, seed=1))


@pytest.fixture
def guesses():
    """A target, and what three models predict: two good ones that err differently, and a bad one."""
    rng = np.random.default_rng(0)
    target = rng.normal(100, 10, 300)
    return target, np.stack([target + rng.normal(0, size, 300) for size in (2.0, 2.1, 9.0)])


def test_two_that_err_differently_share_the_weight_and_a_bad_one_has_none(guesses):
    weights = choose_weights(*guesses, within=0.1)
    assert weights.sum() == pytest.approx(1)
    assert weights[:2] == pytest.approx([0.5, 0.5], abs=0.2)
    assert weights[2] == 0


def test_it_is_never_worse_than_its_best_member(guesses):
    target, predicted = guesses
    for seed in range(20):
        drawn = np.random.default_rng(seed).choice(300, 40)
        weights = choose_weights(target[drawn], predicted[:, drawn], within=1.0)
        errors = [float(rmse(target[drawn], p)) for p in predicted[:, drawn]]
        assert rmse(target[drawn], weights @ predicted[:, drawn]) <= min(errors) + 1e-9


def test_one_that_nothing_improves_stays_alone():
    target = np.arange(10.0)
    assert choose_weights(target, np.stack([target, target + 5]), within=1.0).tolist() == [1, 0]


def test_no_row_chooses_the_weights_that_it_is_scored_with(guesses):
    target, predicted = guesses
    weights, nested = validate(target, predicted, 1.0, FOLDS, log_target=False)
    spoiled = target.copy()
    spoiled[0] += 1000  # whatever is in a row, its own prediction stays
    assert validate(spoiled, predicted, 1.0, FOLDS, log_target=False)[1][0] == nested[0]
    assert weights.sum() == pytest.approx(1)


def test_weighing_logs_is_the_geometric_mean():
    one, two = np.array([9.0]), np.array([99.0])
    assert weigh([one, two], [0.5, 0.5], log_target=True) == pytest.approx(np.sqrt(10 * 100) - 1)
    assert weigh([one, two], [0.5, 0.5], log_target=False) == pytest.approx(54)


def test_a_blend_predicts_the_weighted_mean_of_its_members():
    X, y = np.arange(20.0).reshape(10, 2), np.arange(10.0) ** 2
    members = [("linear", LinearRegression()), ("tree", DecisionTreeRegressor(max_depth=1, random_state=0))]
    blend = Blend(members, [0.3, 0.7], log_target=False).fit(X, y)
    first, second = (member.fit(X, y).predict(X) for _, member in members)
    np.testing.assert_allclose(blend.predict(X), 0.3 * first + 0.7 * second)
