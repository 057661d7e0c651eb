"""Metrics and intervals against scikit-learn, and against cases worked out by hand."""

import numpy as np
import pytest
from sklearn import metrics as reference

from stages.model.metrics import (
    METRICS,
    bootstrap_intervals,
    estimate_win_rate,
    resample,
    score_predictions,
    show_score,
)

RNG = np.random.default_rng(0)
Y = RNG.uniform(50_000, 500_000, 200)
PREDICTED = Y * RNG.normal(1, 0.1, 200)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rmse", reference.root_mean_squared_error(Y, PREDICTED)),
        ("mae", reference.mean_absolute_error(Y, PREDICTED)),
        ("r2", reference.r2_score(Y, PREDICTED)),
        ("rmsle", reference.root_mean_squared_log_error(Y, PREDICTED)),
        ("mdape", 100 * np.median(abs(PREDICTED / Y - 1))),
    ],
)
def test_metric_agrees_with_its_reference(name, expected):
    assert METRICS[name].score(Y, PREDICTED) == pytest.approx(expected)


def test_scores_carry_their_part_in_the_name():
    assert set(score_predictions(Y, PREDICTED, "test")) == {f"test_{name}" for name in METRICS}


def test_interval_holds_the_score_and_narrows_with_more_rows():
    few, many = bootstrap_intervals(Y[:30], PREDICTED[:30], "test", 1), bootstrap_intervals(Y, PREDICTED, "test", 1)
    assert many["test_rmse_low"] < METRICS["rmse"].score(Y, PREDICTED) < many["test_rmse_high"]
    assert many["test_r2_high"] - many["test_r2_low"] < few["test_r2_high"] - few["test_r2_low"]


def test_interval_repeats_with_its_seed():
    assert bootstrap_intervals(Y, PREDICTED, "test", 1) == bootstrap_intervals(Y, PREDICTED, "test", 1)


def test_interval_of_a_long_table_is_drawn_in_parts(monkeypatch):
    whole = bootstrap_intervals(Y, PREDICTED, "test", 1)
    monkeypatch.setattr("stages.model.metrics.LARGEST_DRAW", 7 * len(Y))
    parts = bootstrap_intervals(Y, PREDICTED, "test", 1)
    assert len(list(resample(len(Y), 1))) == 286
    assert parts == pytest.approx(whole, rel=0.05)


@pytest.mark.parametrize("metric", METRICS)
def test_better_predictions_win_and_equal_ones_do_not(metric):
    better = Y + (PREDICTED - Y) / 10
    assert estimate_win_rate(Y, better, PREDICTED, metric, 1) > 0.95
    assert estimate_win_rate(Y, PREDICTED, better, metric, 1) < 0.05
    assert estimate_win_rate(Y, PREDICTED, PREDICTED, metric, 1) == 0


@pytest.mark.parametrize(("lowest", "absent"), [(-1.0, {"rmsle", "mdape"}), (0.0, {"mdape"}), (1e-9, set())])
def test_metrics_that_mean_nothing_for_a_target_are_left_out(lowest, absent):
    y = np.array([lowest, 1.0, 2.0])
    scores = score_predictions(y, y + 0.1, "test")
    assert set(METRICS) - {key.removeprefix("test_") for key in scores} == absent
    assert np.isfinite(list(scores.values())).all()


def test_figures_of_small_units_keep_their_digits():
    y = np.array([1.0, 2.0, 4.0]) * 1e-7
    scores = score_predictions(y, y * 1.25, "test")
    assert scores["test_rmse"] == pytest.approx(0.25 * np.sqrt(7) * 1e-7, rel=1e-5)
    assert scores["test_rmsle"] == pytest.approx(scores["test_rmse"], rel=5e-3)
    assert METRICS["r2"].round(0.12345678) == 0.123457
    assert show_score("cv_rmsle", {"cv_rmsle": 0.1}) == "0.1000"
    assert show_score("cv_rmsle", {"cv_rmsle": 0.0000123}) == "1.2e-05"
    assert show_score("test_rmse", {"test_rmse": 0.0000123}) == "1.23e-05"


def test_resamples_of_one_value_have_an_r2_of_one_or_zero():
    """Where the sum of squares is dust, as three times 0.1 less its mean."""
    bounds = bootstrap_intervals(np.array([0.1, 0.7, 1.3]), np.array([0.2, 0.6, 1.3]), "test", 1)
    assert 0 <= bounds["test_r2_low"] <= bounds["test_r2_high"] <= 1
