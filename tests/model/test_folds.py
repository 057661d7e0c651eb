"""Cross-validation on tables small enough to follow: every row predicted by a fold that has not seen it."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from stages.model.catalogue import MODELS
from stages.model.estimators import build_estimator, build_regressor
from stages.model.folds import draw_folds, fit_folds, predict_folds, score_folds
from stages.model.metrics import rmse
from stages.model.plots import trace_learning
from stages.shared.cli import InputError
from stages.shared.params import Fit
from stages.table.encoder import Encoder

ONE_COLUMN = {"target": "y", "columns": {"size": {"type": "number"}}}
FIT = Fit(log_target=True, cv_folds=4, threads=1, seed=1)
FOLDS = draw_folds(40, FIT)


@pytest.fixture
def table():
    size = np.arange(1.0, 41.0)
    return pd.DataFrame({"size": size}), 1000 * size


def make_estimator(name, **section):
    return build_estimator(build_regressor(name, section, 1, 1), MODELS[name], log_target=False)


def test_every_row_is_predicted_once_and_scored(table):
    rows, target = table
    pipelines = fit_folds(Encoder(ONE_COLUMN), make_estimator("linear"), rows, target, FOLDS)
    predicted = predict_folds(pipelines, rows, FOLDS)
    assert predicted == pytest.approx(target, rel=0.5)
    scores = score_folds(target, predicted)
    assert scores["cv_rmse"] == pytest.approx(float(rmse(target, predicted)), abs=0.01)
    assert sorted(np.concatenate([held_out for _, held_out in FOLDS])) == list(range(40))


def test_encoder_of_a_fold_never_sees_the_rows_held_out(table):
    rows, target = table
    seen = []

    class Spy(Encoder):
        def fit(self, rows, y=None):
            seen.append(set(rows.index))
            return super().fit(rows, y)

    fit_folds(Spy(ONE_COLUMN), make_estimator("linear"), rows, target, FOLDS)
    assert seen == [set(fitted) for fitted, _ in FOLDS]
    assert all(not fitted & set(held_out) for fitted, (_, held_out) in zip(seen, FOLDS, strict=True))


def test_a_group_is_held_out_whole_and_a_fold_of_times_is_a_span():
    """So that the folds are as far apart as training and test rows are."""
    groups, times = np.arange(40) % 10, np.arange(40.0)[::-1]
    for fitted, held_out in draw_folds(40, FIT, pd.Series(groups, name="group")):
        assert not set(groups[fitted]) & set(groups[held_out])
    spans = [sorted(times[held_out]) for _, held_out in draw_folds(40, FIT, pd.Series(times, name="time"))]
    assert spans == [list(np.arange(start, start + 10.0)) for start in (0, 10, 20, 30)]
    with pytest.raises(InputError, match="only 3 groups"):
        draw_folds(40, FIT, pd.Series(groups % 3, name="group"))


@pytest.mark.parametrize("name", ["gradient_boosting", "xgboost", "lightgbm"])
def test_learning_curve_ends_at_the_rmse_of_the_whole_booster(name, table):
    rows, target = table
    estimator = build_estimator(build_regressor(name, {"n_estimators": 80}, 1, 1), MODELS[name], log_target=True)
    encoder = Encoder(ONE_COLUMN)
    pipeline = Pipeline([("encoder", encoder), ("estimator", estimator)]).fit(rows, target)
    expected = rmse(target, pipeline.predict(rows))
    curve = trace_learning(pipeline["estimator"], {"validation": (encoder.transform(rows), target)})
    assert curve["iteration"].is_monotonic_increasing
    assert len(curve) == 25
    assert curve.iloc[-1][["iteration", "rmse"]].tolist() == [80, pytest.approx(expected, abs=0.01)]


def test_coefficients_of_a_fold_are_rounded(table):
    rows, target = table
    (first, *_) = fit_folds(Encoder(ONE_COLUMN), make_estimator("linear"), rows, target, FOLDS)
    regressor = first["estimator"]["regressor"]
    assert isinstance(regressor, LinearRegression)
    assert not hasattr(regressor, "singular_")
