"""Cross-validation on the training rows: encoder and estimator fitted again in each fold."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline

from stages.model.estimators import find_regressor, predict_target, round_coefficients
from stages.model.metrics import score_predictions
from stages.model.plots import trace_learning
from stages.model.results import SAMPLE
from stages.shared.cli import InputError
from stages.shared.params import Fit


class Validation(NamedTuple):
    """What cross-validation tells: out-of-fold predictions (n_rows,), scores, and how a booster learned."""

    predicted: np.ndarray
    scores: dict[str, float]
    learning: pd.DataFrame


def draw_folds(n_rows: int, fit: Fit) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The positions of the rows to fit on and of those held out, for each of `fit.cv_folds` folds.

    Raises InputError if there are fewer rows.
    """
    if n_rows < fit.cv_folds:
        raise InputError(f"params.yaml: fit.cv_folds = {fit.cv_folds}: there are only {n_rows} rows to train on")
    return KFold(fit.cv_folds, shuffle=True, random_state=fit.seed).split(np.zeros(n_rows))


def fit_folds(
    encoder: TransformerMixin, estimator: BaseEstimator, rows: pd.DataFrame, target: np.ndarray, fit: Fit
) -> list[Pipeline]:
    """Encoder and estimator fitted again on each fold of the raw training rows, (n_rows, n_columns)."""
    pipelines = []
    for fitted, _ in draw_folds(len(rows), fit):
        pipeline = Pipeline([("encoder", clone(encoder)), ("estimator", clone(estimator))])
        pipelines.append(pipeline.fit(rows.iloc[fitted], target[fitted]))
        round_coefficients(find_regressor(pipeline["estimator"]))
    return pipelines


def predict_folds(pipelines: list[Pipeline], rows: pd.DataFrame, fit: Fit) -> np.ndarray:
    """The prediction for each training row by the one pipeline that has not seen it, (n_rows,)."""
    predicted = np.empty(len(rows))
    for pipeline, (_, held_out) in zip(pipelines, draw_folds(len(rows), fit), strict=True):
        predicted[held_out] = predict_target(pipeline, rows.iloc[held_out])
    return predicted


def score_folds(target: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Out-of-fold scores on all training rows."""
    scores = score_predictions(target, predicted, "cv")
    return {key: scores[key] for key in ("cv_rmse", "cv_rmsle") if key in scores}


def cross_validate(
    encoder: TransformerMixin, estimator: BaseEstimator, rows: pd.DataFrame, target: np.ndarray, fit: Fit
) -> Validation:
    """Out-of-fold predictions and their scores, and the learning curve of the first fold (no lines for no booster)."""
    pipelines = fit_folds(encoder, estimator, rows, target, fit)
    first, sides = pipelines[0], {}
    for side, positions in zip(("train", "validation"), next(draw_folds(len(rows), fit)), strict=True):
        sample = positions[:SAMPLE]
        sides[side] = first["encoder"].transform(rows.iloc[sample]), target[sample]
    predicted = predict_folds(pipelines, rows, fit)
    return Validation(predicted, score_folds(target, predicted), trace_learning(first["estimator"], sides))
