"""Predictions → RMSE, MAE, R² and the rest, with intervals. Prices are in dollars."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from stages.shared.cli import InputError

Array = np.ndarray
Scores = dict[str, Any]  # a model's title, and its metrics by name

RESAMPLES = 2000
LARGEST_DRAW = 2**20  # row numbers drawn at a time


class Metric(NamedTuple):
    """How a metric is computed over the last axis, which direction is better, and to how many places it is kept."""

    score: Callable[[Array, Array], Array]
    greater_is_better: bool
    places: int


def rmse(y: Array, predicted: Array) -> Array:
    """Root mean squared error, in dollars."""
    return np.sqrt(np.mean((y - predicted) ** 2, axis=-1))


def mae(y: Array, predicted: Array) -> Array:
    """Mean absolute error, in dollars."""
    return np.mean(np.abs(y - predicted), axis=-1)


def r2(y: Array, predicted: Array) -> Array:
    """Share of the variance of the prices that the predictions explain."""
    residual = np.sum((y - predicted) ** 2, axis=-1)
    return 1 - residual / np.sum((y - np.mean(y, axis=-1, keepdims=True)) ** 2, axis=-1)


def rmsle(y: Array, predicted: Array) -> Array:
    """Root mean squared error of log(1 + price): Kaggle's score for this table.

    Source: the evaluation page of Kaggle's competition House Prices - Advanced Regression Techniques.
    """
    return rmse(np.log1p(np.maximum(y, 0)), np.log1p(np.maximum(predicted, 0)))


def mdape(y: Array, predicted: Array) -> Array:
    """Median absolute error, in percent of the price."""
    return 100 * np.median(np.abs((y - predicted) / y), axis=-1)


METRICS = {
    "rmse": Metric(rmse, greater_is_better=False, places=2),
    "mae": Metric(mae, greater_is_better=False, places=2),
    "r2": Metric(r2, greater_is_better=True, places=6),
    "rmsle": Metric(rmsle, greater_is_better=False, places=6),
    "mdape": Metric(mdape, greater_is_better=False, places=4),
}


def find_metric(key: str) -> str:
    """The metric behind a name in a metrics file: `rmsle` behind `cv_rmsle` and `test_rmsle_low`.

    Raises InputError if there is none.
    """
    found = next((word for word in key.split("_") if word in METRICS), None)
    if found is None:
        raise InputError(f"params.yaml: register.metric = {key!r}: no such metric; known: {', '.join(METRICS)}")
    return found


def score_predictions(y: Array, predicted: Array, prefix: str) -> dict[str, float]:
    """Every metric of predictions (n_rows,) under its name, as in `test_rmse`, rounded so that it can be compared."""
    return {f"{prefix}_{name}": round(float(m.score(y, predicted)), m.places) for name, m in METRICS.items()}


def resample(n_rows: int, seed: int) -> Iterator[Array]:
    """Row numbers of the bootstrap resamples, (n_resamples, n_rows), as many at a time as fit into little memory."""
    rng, left = np.random.default_rng(seed), RESAMPLES
    while left:
        count = min(left, max(1, LARGEST_DRAW // n_rows))
        yield rng.integers(n_rows, size=(count, n_rows))
        left -= count


def bootstrap_intervals(y: Array, predicted: Array, prefix: str, seed: int) -> dict[str, float]:
    """95 % percentile bootstrap intervals of RMSE and R², as `test_rmse_low` and `test_rmse_high`.

    Source: B. Efron and R. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    scores: dict[str, list[Array]] = {"rmse": [], "r2": []}
    for rows in resample(len(y), seed):
        drawn, drawn_predicted = y[rows], predicted[rows]
        for name, parts in scores.items():
            parts.append(METRICS[name].score(drawn, drawn_predicted))
    bounds = {}
    for name, parts in scores.items():
        low, high = np.percentile(np.concatenate(parts), [2.5, 97.5])
        bounds[f"{prefix}_{name}_low"] = round(float(low), METRICS[name].places)
        bounds[f"{prefix}_{name}_high"] = round(float(high), METRICS[name].places)
    return bounds


def estimate_win_rate(y: Array, first: Array, second: Array, metric: str, seed: int) -> float:
    """In which share of paired bootstrap resamples the first predictions score better than the second."""
    kind, won = METRICS[metric], 0
    for rows in resample(len(y), seed):
        lead = kind.score(y[rows], first[rows]) - kind.score(y[rows], second[rows])
        won += int(np.sum(lead > 0 if kind.greater_is_better else lead < 0))
    return round(won / RESAMPLES, 3)
