"""Each model fitted on encoded parts, and put together as the estimator that one machine would have made."""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from distributed import Client
from sklearn.base import BaseEstimator, clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline

from stages.cluster.boosting import BOOSTERS, Share
from stages.cluster.connection import fit_together, map_parts
from stages.cluster.moments import choose, fit_linear, measure
from stages.cluster.pieces import Piece, draw, draw_folds, read_piece
from stages.model.auto import Size, apply_rules, find_auto, leave_out_auto
from stages.model.catalogue import MODELS
from stages.model.estimators import build_estimator, build_regressor, round_coefficients
from stages.model.search import Training, resolve_section
from stages.shared.params import Fit

SEARCH_FOLDS = 5  # that choose a penalty where there is no cross-validation


class Table(NamedTuple):
    """The encoded parts that a model learns from, the shape of all together, and the rows of each part and fold."""

    pieces: list[Piece]
    size: Size
    counts: np.ndarray


class Task(NamedTuple):
    """What is to be fitted: a model by its name, with its section of params.yaml, and what the models share."""

    name: str
    section: dict[str, Any]
    fit: Fit
    sample_rows: int


def count_folds(piece: Piece, n_folds: int) -> np.ndarray:
    return np.bincount(draw_folds(pd.read_parquet(piece.y).index, piece.seed, n_folds), minlength=n_folds)


def open_table(client: Client, pieces: list[Piece], n_features: int, n_folds: int, what: str) -> Table:
    counts = np.array(map_parts(client, count_folds, pieces, what, n_folds=n_folds))
    return Table(pieces, Size(int(counts.sum()), n_features), counts)


def fit_all(client: Client, task: Task, table: Table) -> list[BaseEstimator]:
    """A model fitted on all rows, then, for each fold of cross-validation, on all but that fold's."""
    name, section, fit, sample_rows = task
    what, n_folds = f"train@{name}", table.counts.shape[1]
    lists = [[*range(n_folds)], *([f for f in range(n_folds) if f != fold] for fold in range(fit.cv_folds))]
    known = apply_rules(name, section, table.size)
    if MODELS[name].linear:
        regressor = build_regressor(name, leave_out_auto(name, known), fit.seed, fit.threads)
        moments = measure(client, table.pieces, n_folds, what)
        chosen = choose(name, section, regressor, moments)
        tell(what, chosen)
        regressor.set_params(**chosen)
        return [assemble(name, fit_linear(regressor, moments, folds), fit) for folds in lists]
    if name in BOOSTERS:
        tell(what, {key: known[key] for key in find_auto(name, section)})
        regressor = build_regressor(name, known, fit.seed, 1)
        fitted = []
        for folds in lists:
            shares = [Share(*part, folds, table.size.features) for part in zip(table.pieces, table.counts, strict=True)]
            filled = [share for share in shares if share.count_rows()]
            fitted.append(fit_together(client, partial(BOOSTERS[name], client, regressor, filled), what))
        return [assemble(name, [("regressor", one)], fit) for one in fitted]
    share = min(1.0, sample_rows / table.size.rows)
    return map_parts(client, fit_sample, lists, what, task=task, table=table, share=share)


def tell(what: str, chosen: dict[str, Any]) -> None:
    if chosen:
        print(f"{what}: auto: {', '.join(f'{key} {value}' for key, value in chosen.items())}", flush=True)


def assemble(name: str, steps: list[tuple[str, BaseEstimator]], fit: Fit) -> BaseEstimator:
    """Fitted steps as the estimator that `build_estimator` would have fitted."""
    round_coefficients(steps[-1][1])
    pipeline = Pipeline(steps)
    estimator = build_estimator(clone(steps[-1][1]), MODELS[name], bool(fit.log_target))
    if not fit.log_target:
        return pipeline
    unfitted = estimator.regressor
    estimator.set_params(regressor=FrozenEstimator(pipeline)).fit(np.zeros((2, 1)), np.ones(2))
    estimator.set_params(regressor=unfitted)
    estimator.regressor_ = pipeline
    return estimator


def fit_sample(folds: list[int], task: Task, table: Table, share: float) -> BaseEstimator:
    """A model fitted, on one worker, on a share of the rows of some folds, drawn by the hash of the id.

    If it is not all of them, the regressor keeps the number as `sample_rows_`.
    """
    drawn, (name, section, fit, _) = [], task
    for piece in table.pieces:
        X, z, ids = read_piece(piece)
        kept = np.isin(draw_folds(ids, piece.seed, table.counts.shape[1]), folds)
        kept &= draw(ids, piece.seed, "sample") < share
        drawn.append((X[kept], z[kept]))
    X, z = np.concatenate([X for X, _ in drawn]), np.concatenate([z for _, z in drawn])
    y = np.expm1(z) if fit.log_target else z
    regressor = build_regressor(name, resolve_section(name, section, Training(X, y), fit), fit.seed, fit.threads)
    regressor.fit(X, z)
    if share < 1:
        regressor.sample_rows_ = len(X)
    return assemble(name, [("regressor", regressor)], fit)


def predict_piece(piece: Piece, estimators: list[BaseEstimator], n_folds: int) -> np.ndarray:
    """Predictions (n_rows, 1 or 2): of the first estimator, and of the one that has not learned from a row's fold."""
    X, _, ids = read_piece(piece)
    columns = [estimators[0].predict(X)]
    if len(estimators) > 1:
        folds, held_out = draw_folds(ids, piece.seed, n_folds), np.empty(len(X))
        for fold in np.unique(folds):
            held_out[folds == fold] = estimators[1 + fold].predict(X[folds == fold])
        columns.append(held_out)
    return np.column_stack(columns)
