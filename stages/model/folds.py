"""Cross-validation on the training rows: encoder and estimator fitted again in each fold."""

import ctypes
import multiprocessing
import signal
import sys
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline

from stages.model.metrics import rmse, rmsle
from stages.model.plots import trace_learning
from stages.shared.params import Fit

Result = TypeVar("Result")
SAMPLE = 10_000  # rows that are enough for a learning curve


class Fold(NamedTuple):
    """A pipeline, the training rows that it was fitted on, and those held out, by position."""

    pipeline: Pipeline
    fitted: np.ndarray
    held_out: np.ndarray


def find_fittable(y: pd.DataFrame, fit: Fit) -> np.ndarray:
    """Which training rows the fit sees, (n_rows,): all, or all but the outliers."""
    return ~y["outlier"].to_numpy() if fit.drop_outliers else np.ones(len(y), dtype=bool)


def fit_folds(
    encoder: TransformerMixin, estimator: BaseEstimator, rows: pd.DataFrame, y: pd.DataFrame, fit: Fit
) -> list[Fold]:
    """Encoder and estimator fitted again on each of `fit.cv_folds` folds of the training rows.

    rows: raw (n_rows, n_columns). y: target and outlier flag; outliers stay out of the fits.
    """
    target, fittable, folds = y["target"].to_numpy(), find_fittable(y, fit), []
    for drawn, held_out in KFold(fit.cv_folds, shuffle=True, random_state=fit.seed).split(rows):
        kept = drawn[fittable[drawn]]
        pipeline = Pipeline([("encoder", clone(encoder)), ("estimator", clone(estimator))])
        folds.append(Fold(pipeline.fit(rows.iloc[kept], target[kept]), kept, held_out))
    return folds


def score_folds(folds: list[Fold], rows: pd.DataFrame, y: pd.DataFrame) -> dict[str, float]:
    """Out-of-fold scores on the training rows: with outliers, and without (`cv_rmsle_inliers`)."""
    target, inlier = y["target"].to_numpy(), ~y["outlier"].to_numpy()
    predicted = np.empty(len(y))
    for fold in folds:
        predicted[fold.held_out] = fold.pipeline.predict(rows.iloc[fold.held_out])
    return {
        "cv_rmse": round(float(rmse(target, predicted)), 2),
        "cv_rmsle": round(float(rmsle(target, predicted)), 6),
        "cv_rmsle_inliers": round(float(rmsle(target[inlier], predicted[inlier])), 6),
    }


def cross_validate(
    encoder: TransformerMixin, estimator: BaseEstimator, rows: pd.DataFrame, y: pd.DataFrame, fit: Fit
) -> tuple[dict[str, float], pd.DataFrame]:
    """Scores over all folds of the training rows, and how the first fold's booster learned (no lines for others)."""
    folds = fit_folds(encoder, estimator, rows, y, fit)
    first, sides = folds[0], {}
    for side, positions in (("train", first.fitted), ("validation", first.held_out)):
        sample = positions[:SAMPLE]
        sides[side] = first.pipeline["encoder"].transform(rows.iloc[sample]), y["target"].to_numpy()[sample]
    return score_folds(folds, rows, y), trace_learning(first.pipeline["estimator"], sides)


def start_aside(function: Callable[..., Result], *args: object) -> Future[Result]:
    """Run a function in a process of its own, beside this one: for the core that imports leave idle.

    On Linux it begins with all that is imported here, and ends with this process, however that ends.
    """
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    return ProcessPoolExecutor(1, context, initializer=end_with_parent).submit(function, *args)


def end_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
