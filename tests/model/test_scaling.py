"""What linear models see: logs within bounds, columns that vary, and none that others give away."""

import numpy as np
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline

from stages.model.scaling import Independent, LogSkewed, Standardized


def test_columns_that_hardly_vary_count_for_nothing():
    X = np.column_stack([np.arange(200.0), np.arange(200) < 9, np.arange(200) < 10, np.ones(200)])
    scaled = Standardized(least=10).fit(X).transform(X.copy())
    assert scaled.any(axis=0).tolist() == [True, False, True, False]


def test_few_rows_keep_columns_that_vary_in_a_tenth_of_them():
    X = np.column_stack([np.arange(20) < 1, np.arange(20) < 2]).astype(float)
    assert Standardized().fit(X).transform(X.copy()).any(axis=0).tolist() == [False, True]


def test_columns_that_others_give_away_count_for_nothing():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 500))
    X = np.column_stack([first, second, first + second, first + 0.2 * rng.normal(size=500), np.zeros(500)])
    X -= X.mean(axis=0)
    assert Independent().fit(X).kept_.tolist() == [True, True, False, True, False]
    assert not Independent().fit(X).transform(X.copy())[:, [2, 4]].any()


def test_least_squares_stays_sane_beside_a_product_and_its_factors():
    rng = np.random.default_rng(0)
    a, b = rng.lognormal(5, 1, size=(2, 400))
    X, y = np.column_stack([a, b, a * b]), np.log(a * b) + rng.normal(0, 0.1, 400)
    line = make_pipeline(LogSkewed(), Standardized(), Independent(), LinearRegression()).fit(X, y)
    assert np.abs(line[-1].coef_).max() < 5
