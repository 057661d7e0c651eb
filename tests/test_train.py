"""Fitting, scoring and cross-validation, on tables small enough to follow."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from stages.model.estimators import MODELS, build_estimator, build_regressor
from stages.model.folds import find_fittable, fit_folds, score_folds
from stages.model.metrics import rmse
from stages.model.plots import trace_learning
from stages.shared.cli import InputError
from stages.shared.params import Fit
from stages.table.encoder import Encoder
from stages.train import check_against_median

FIT = Fit(log_target=True, drop_outliers=True, cv_folds=4, threads=1, seed=1)


@pytest.fixture
def table():
    size = np.arange(1.0, 41.0)
    rows = pd.DataFrame({"size": size})
    y = pd.DataFrame({"target": 1000 * size, "outlier": False})
    y.loc[39] = [5.0, True]  # a row that would bend the line
    return rows, y


def test_fit_sees_outliers_only_if_asked(table):
    _, y = table
    assert find_fittable(y, FIT).tolist() == [True] * 39 + [False]
    assert find_fittable(y, FIT.model_copy(update={"drop_outliers": False})).all()


def test_folds_score_every_row_and_keep_outliers_out_of_the_fits(table):
    rows, y = table
    scores = score_folds(fit_folds(Encoder({"target": "y"}), LinearRegression(), rows, y, FIT), rows, y)
    assert scores["cv_rmsle_inliers"] == pytest.approx(0, abs=1e-5)
    assert scores["cv_rmse"] == pytest.approx(39_995 / np.sqrt(40), rel=1e-3)


def test_encoder_of_a_fold_never_sees_the_rows_held_out(table):
    rows, y = table
    seen = []

    class Spy(Encoder):
        def fit(self, rows, y=None):
            seen.append(set(rows.index))
            return super().fit(rows, y)

    fit_folds(Spy({"target": "y"}), LinearRegression(), rows, y, FIT)
    assert len(seen) == 4
    assert all(len(fold) <= 30 for fold in seen)


@pytest.mark.parametrize("name", ["gradient_boosting", "xgboost", "lightgbm"])
def test_learning_curve_ends_at_the_rmse_of_the_whole_booster(name, table):
    rows, y = table
    estimator = build_estimator(build_regressor(name, {"n_estimators": 80}, 1, 1), MODELS[name], log_target=True)
    encoder = Encoder({"target": "y"})
    prices = y["target"].to_numpy()
    pipeline = Pipeline([("encoder", encoder), ("estimator", estimator)]).fit(rows, prices)
    expected = rmse(prices, pipeline.predict(rows))
    curve = trace_learning(pipeline["estimator"], {"validation": (encoder.transform(rows), prices)})
    assert curve["iteration"].is_monotonic_increasing
    assert len(curve) == 25
    assert curve.iloc[-1][["iteration", "rmse"]].tolist() == [80, pytest.approx(expected, abs=0.01)]


def test_model_no_better_than_the_median_is_refused():
    target = {part: np.array([1.0, 2.0, 9.0]) for part in ("train", "test")}
    with pytest.raises(InputError, match="Ridge Regression is no better than the median"):
        check_against_median({"test_rmse": 100.0}, target, "ridge")
    check_against_median({"test_rmse": 0.1}, target, "ridge")
