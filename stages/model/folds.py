"""Cross-validation on the training rows: encoder and estimator fitted again in each fold."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import Pipeline

from stages.model.estimators import predict_target, round_estimator
from stages.model.metrics import score_predictions
from stages.model.plots import trace_learning
from stages.model.results import SAMPLE
from stages.shared.cli import InputError
from stages.shared.params import Fit

Folds = list[tuple[np.ndarray, np.ndarray]]


def draw_folds(n_rows: int, fit: Fit, apart: pd.Series | None = None) -> Folds:
    """The positions of the rows to fit on and of those held out, for each of `fit.cv_folds` folds: shuffled, or whole
    groups, or spans of time, as `read_apart` says.

    Raises InputError if there are fewer rows or groups.
    """
    n_units, unit = (apart.nunique(), "groups") if apart is not None and apart.name == "group" else (n_rows, "rows")
    if n_units < fit.cv_folds:
        raise InputError(f"params.yaml: fit.cv_folds = {fit.cv_folds}: there are only {n_units} {unit} to train on")
    if apart is None:
        return list(KFold(fit.cv_folds, shuffle=True, random_state=fit.seed).split(np.zeros(n_rows)))
    if unit == "groups":
        return list(GroupKFold(fit.cv_folds, shuffle=True, random_state=fit.seed).split(apart, groups=apart))
    order = np.argsort(apart.to_numpy(), kind="stable")
    return [(order[fitted], order[held_out]) for fitted, held_out in KFold(fit.cv_folds).split(order)]


def fit_fold(
    encoder: TransformerMixin, estimator: BaseEstimator, rows: pd.DataFrame, target: np.ndarray, fitted: np.ndarray
) -> Pipeline:
    """Encoder and estimator fitted again on some of the raw training rows, (n_rows, n_columns), by their positions."""
    pipeline = Pipeline([("encoder", clone(encoder)), ("estimator", clone(estimator))])
    pipeline.fit(rows.iloc[fitted], target[fitted])
    round_estimator(pipeline["estimator"])
    return pipeline


def fit_folds(
    encoder: TransformerMixin, estimator: BaseEstimator, rows: pd.DataFrame, target: np.ndarray, folds: Folds
) -> list[Pipeline]:
    """`fit_fold` for each fold."""
    return [fit_fold(encoder, estimator, rows, target, fitted) for fitted, _ in folds]


def predict_folds(pipelines: list[Pipeline], rows: pd.DataFrame, folds: Folds) -> np.ndarray:
    """The prediction for each training row by the one pipeline that has not seen it, (n_rows,)."""
    held_out = (rows.iloc[positions] for _, positions in folds)
    return join_folds([predict_target(*pair) for pair in zip(pipelines, held_out, strict=True)], folds)


def join_folds(predicted: Sequence[np.ndarray], folds: Folds) -> np.ndarray:
    """The predictions for the rows that each fold holds out as those for all rows, (n_rows,)."""
    joined = np.empty(sum(map(len, predicted)))
    for part, (_, held_out) in zip(predicted, folds, strict=True):
        joined[held_out] = part
    return joined


def score_folds(target: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Out-of-fold scores on all training rows."""
    scores = score_predictions(target, predicted, "cv")
    return {key: scores[key] for key in ("cv_rmse", "cv_rmsle") if key in scores}


def trace_fold(
    pipeline: Pipeline, rows: pd.DataFrame, target: np.ndarray, fold: tuple[np.ndarray, np.ndarray]
) -> pd.DataFrame:
    """How a booster learned a fold, on its own rows and on those held out; no lines for any other model."""
    sides = {}
    for side, positions in zip(("train", "validation"), fold, strict=True):
        sample = positions[:SAMPLE]
        sides[side] = pipeline["encoder"].transform(rows.iloc[sample]), target[sample]
    return trace_learning(pipeline["estimator"], sides)
