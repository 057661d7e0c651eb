"""Cross-validation on the training rows: encoder and estimator fitted again in each fold."""

from typing import NamedTuple

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


class Validation(NamedTuple):
    """What cross-validation tells: out-of-fold predictions (n_rows,), scores, and how a booster learned."""

    predicted: np.ndarray
    scores: dict[str, float]
    learning: pd.DataFrame


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


def fit_folds(
    encoder: TransformerMixin, estimator: BaseEstimator, rows: pd.DataFrame, target: np.ndarray, folds: Folds
) -> list[Pipeline]:
    """Encoder and estimator fitted again on each fold of the raw training rows, (n_rows, n_columns)."""
    pipelines = []
    for fitted, _ in folds:
        pipeline = Pipeline([("encoder", clone(encoder)), ("estimator", clone(estimator))])
        pipelines.append(pipeline.fit(rows.iloc[fitted], target[fitted]))
        round_estimator(pipeline["estimator"])
    return pipelines


def predict_folds(pipelines: list[Pipeline], rows: pd.DataFrame, folds: Folds) -> np.ndarray:
    """The prediction for each training row by the one pipeline that has not seen it, (n_rows,)."""
    predicted = np.empty(len(rows))
    for pipeline, (_, held_out) in zip(pipelines, folds, strict=True):
        predicted[held_out] = predict_target(pipeline, rows.iloc[held_out])
    return predicted


def score_folds(target: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Out-of-fold scores on all training rows."""
    scores = score_predictions(target, predicted, "cv")
    return {key: scores[key] for key in ("cv_rmse", "cv_rmsle") if key in scores}


def cross_validate(
    encoder: TransformerMixin, estimator: BaseEstimator, rows: pd.DataFrame, target: np.ndarray, folds: Folds
) -> Validation:
    """Out-of-fold predictions and their scores, and the learning curve of the first fold (no lines for no booster)."""
    pipelines = fit_folds(encoder, estimator, rows, target, folds)
    first, sides = pipelines[0], {}
    for side, positions in zip(("train", "validation"), folds[0], strict=True):
        sample = positions[:SAMPLE]
        sides[side] = first["encoder"].transform(rows.iloc[sample]), target[sample]
    predicted = predict_folds(pipelines, rows, folds)
    return Validation(predicted, score_folds(target, predicted), trace_learning(first["estimator"], sides))
