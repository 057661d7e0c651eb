"""Predictions → RMSE, MAE, R² and the rest, with intervals. RMSE and MAE are in the unit of the target."""

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from stages.shared.cli import InputError

Array = np.ndarray
Scores = dict[str, Any]  # a model's title, and its metrics by name

SHOWN = {"r2": 4, "rmsle": 4, "mdape": 1}  # places of what is no amount in the unit of the target, for people
RESAMPLES = 2000
LARGEST_DRAW = 2**20  # row numbers drawn at a time


class Metric(NamedTuple):
    """How a metric is computed over the last axis, which direction is better, to how many places it is kept (None for
    an amount in the unit of the target), and for which targets it means something.
    """

    score: Callable[[Array, Array], Array]
    greater_is_better: bool
    places: int | None
    fits: Callable[[Array], Any] = lambda _: True

    def round(self, value: Any) -> float:
        """The value to its places, or, if it is small, to three significant digits."""
        if self.places is None or not value:
            return float(round_amounts(value))
        return round(float(value), max(self.places, 2 - math.floor(math.log10(abs(value)))))


def rmse(y: Array, predicted: Array) -> Array:
    """Root mean squared error, in the unit of the target."""
    return np.sqrt(np.mean((y - predicted) ** 2, axis=-1))


def mae(y: Array, predicted: Array) -> Array:
    """Mean absolute error, in the unit of the target."""
    return np.mean(np.abs(y - predicted), axis=-1)


def r2(y: Array, predicted: Array) -> Array:
    """Share of the variance of the target that the predictions explain.

    Where it does not vary, 1 if they hit it, else 0, as scikit-learn's r2_score with force_finite.
    """
    residual = np.sum((y - predicted) ** 2, axis=-1)
    total = np.sum((y - np.mean(y, axis=-1, keepdims=True)) ** 2, axis=-1)
    varies = np.ptp(y, axis=-1) > 0  # of equal values, the sum of squares may be dust
    return np.where(varies, 1 - residual / np.where(varies, total, 1), np.where(residual > 0, 0.0, 1.0))


def rmsle(y: Array, predicted: Array) -> Array:
    """Root mean squared error of log(1 + target). Source: scikit-learn's root_mean_squared_log_error."""
    return rmse(np.log1p(np.maximum(y, 0)), np.log1p(np.maximum(predicted, 0)))


def mdape(y: Array, predicted: Array) -> Array:
    """Median absolute error, in percent of the target."""
    return 100 * np.median(np.abs((y - predicted) / y), axis=-1)


METRICS = {
    "rmse": Metric(rmse, greater_is_better=False, places=None),
    "mae": Metric(mae, greater_is_better=False, places=None),
    "r2": Metric(r2, greater_is_better=True, places=6),
    "rmsle": Metric(rmsle, greater_is_better=False, places=6, fits=lambda y: y.min() >= 0),
    "mdape": Metric(mdape, greater_is_better=False, places=4, fits=lambda y: y.min() > 0),
}


def round_amounts(values: Array) -> Array:
    """Amounts to two places, or, of small ones, to six significant digits."""
    size = np.floor(np.log10(np.maximum(np.abs(values), 1e-300)))
    scale = 10.0 ** np.clip(5 - size, 2, 300)
    return np.round(values * scale) / scale


def show_amount(value: float, sign: str = "") -> str:
    """An amount for people to read: whole from a thousand on, else four significant digits."""
    return f"{value:{sign},.0f}" if abs(value) >= 1000 else f"{value:{sign}.4g}"


def is_weak(scores: Scores) -> bool:
    """Whether a model is no better than saying the median of the training rows every time."""
    return not scores["test_rmse"] < scores["median_rmse"]


def find_metric(key: str) -> str:
    """The metric behind a name in a metrics file: `rmsle` behind `cv_rmsle` and `test_rmsle_low`.

    Raises InputError if there is none.
    """
    found = next((word for word in key.split("_") if word in METRICS), None)
    if found is None:
        raise InputError(f"params.yaml: register.metric = {key!r}: no such metric; known: {', '.join(METRICS)}")
    return found


def score_predictions(y: Array, predicted: Array, prefix: str) -> dict[str, float]:
    """Every metric that means something of predictions (n_rows,) under its name, as in `test_rmse`, rounded so that it
    can be compared.
    """
    return {f"{prefix}_{name}": m.round(m.score(y, predicted)) for name, m in METRICS.items() if m.fits(y)}


def find_cv(scores: Iterable[Scores]) -> str:
    """The cross-validated metric that models are compared by: RMSE where a target is negative, which has no RMSLE."""
    return "cv_rmsle" if all("cv_rmsle" in s for s in scores) else "cv_rmse"


def name_cv(metric: str) -> str:
    """A cross-validated metric for people to read: `CV RMSLE`."""
    return metric.replace("_", " ").upper()


def show_score(key: str, scores: Scores) -> str:
    """A metric for people to read; nothing if the model has none of this name."""
    if key not in scores:
        return ""
    value, places = scores[key], SHOWN.get(find_metric(key))
    if places is None:
        return show_amount(value)
    return f"{value:.{places}f}" if abs(value) >= 10.0**-places or not value else f"{value:.2g}"


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
        bounds[f"{prefix}_{name}_low"] = METRICS[name].round(low)
        bounds[f"{prefix}_{name}_high"] = METRICS[name].round(high)
    return bounds


def estimate_win_rate(y: Array, first: Array, second: Array, metric: str, seed: int) -> float:
    """In which share of paired bootstrap resamples the first predictions score better than the second."""
    kind, won = METRICS[metric], 0
    for rows in resample(len(y), seed):
        lead = kind.score(y[rows], first[rows]) - kind.score(y[rows], second[rows])
        won += int(np.sum(lead > 0 if kind.greater_is_better else lead < 0))
    return round(won / RESAMPLES, 3)
