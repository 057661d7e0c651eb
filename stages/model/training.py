"""One model of params.yaml on the prepared tables: its settings checked, then fitted, scored and cross-validated."""

import os
import time
from concurrent.futures import Future
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from stages.model.auto import find_auto, leave_out_auto
from stages.model.catalogue import require_model
from stages.model.estimators import (
    build_estimator,
    build_regressor,
    predict_target,
    round_estimator,
)
from stages.model.folds import Folds, draw_folds, fit_fold, join_folds, score_folds, trace_fold
from stages.model.metrics import Scores
from stages.model.plots import rank_features, trace_learning
from stages.model.results import (
    PARTS,
    SAMPLE,
    describe_scores,
    load_object,
    read_apart,
    read_features,
    read_fit,
    read_table,
    read_targets,
    score_parts,
    tabulate_predictions,
    time_pipeline,
    write_results,
)
from stages.model.search import Training, resolve_section
from stages.shared.aside import start_aside, wait_for
from stages.shared.files import PREPARED
from stages.shared.params import read_mapping

Validated = tuple[np.ndarray, pd.DataFrame | None]


class Trained(NamedTuple):
    """A fitted pipeline, its scores, the tables behind them, and timings in seconds."""

    pipeline: Pipeline
    scores: Scores
    tables: dict[str, pd.DataFrame]
    timings: dict[str, float]


def check_model(name: str) -> None:
    """Raises InputError for whatever a model's section of params.yaml has wrong."""
    require_model(name)
    fit, section = read_fit(), read_mapping(name)
    build_regressor(name, leave_out_auto(name, section), fit.seed, fit.threads)


def build_model(name: str, X: np.ndarray, y: np.ndarray) -> BaseEstimator:
    """The unfitted estimator of a model, with what `auto` in its section of params.yaml stands for on these rows."""
    fit, section = read_fit(), read_mapping(name)
    resolved = resolve_section(name, section, Training(X, y, read_apart()), fit)
    chosen = ", ".join(f"{key} {resolved[key]}" for key in find_auto(name, section))
    if chosen:
        print(f"train@{name}: auto: {chosen}", flush=True)
    regressor = build_regressor(name, resolved, fit.seed, fit.threads)
    return build_estimator(regressor, require_model(name), bool(fit.log_target))


def begin_folds(estimator: BaseEstimator, folds: Folds) -> list[Future[Validated]]:
    """Begin `validate_fold` for each fold, as many at a time as there are cores."""
    aside = start_aside(min(len(folds), os.cpu_count() or 1))
    return [aside.submit(validate_fold, estimator, fold, traced=not number) for number, fold in enumerate(folds)]


def validate_fold(estimator: BaseEstimator, fold: tuple[np.ndarray, np.ndarray], traced: bool) -> Validated:
    """Encoder and estimator fitted again on one fold of the training rows: what they predict for the rows held out,
    (n_held_out,), and how they learned, if that is `traced`.
    """
    encoder, rows, target = load_object(PREPARED / "encoder.joblib"), read_table("rows_train"), read_targets()["train"]
    fitted, held_out = fold
    pipeline = fit_fold(encoder, estimator, rows, target, fitted)
    learning = trace_fold(pipeline, rows, target, fold) if traced else None
    return predict_target(pipeline, rows.iloc[held_out]), learning


@lru_cache(1)
def fit_model(name: str) -> Trained:
    """Fit a model on the training rows, beside its cross-validation, and score it. Kept, so that the fit can begin
    before anything may be written.

    Raises InputError if it predicts nothing finite.
    """
    fit, title, target = read_fit(), require_model(name).title, read_targets()
    encoder, folds = load_object(PREPARED / "encoder.joblib"), []
    with threadpool_limits(fit.threads):
        X = read_features("train")
        estimator = build_model(name, X, target["train"])
        if fit.cv_folds:
            drawn = draw_folds(len(X), fit, read_apart())
            folds = begin_folds(clone(estimator), drawn)  # a copy, since it is sent while the fit changes the original
        print(f"train@{name}: {title} on {len(X)} rows of {X.shape[1]} features", flush=True)
        started = time.perf_counter()
        estimator.fit(X, target["train"])
        seconds = time.perf_counter() - started
        sides = {} if folds else {"train": (X[:SAMPLE], target["train"][:SAMPLE])}
        learning = trace_learning(estimator, sides)
        del X, sides  # large tables need the memory
        round_estimator(estimator)
        predicted = {part: predict_target(estimator, read_features(part)) for part in PARTS}
        scores = score_parts(target, predicted, fit.seed, title)
        pipeline = Pipeline([("encoder", encoder), ("estimator", estimator)])
        tables = {
            "predictions": tabulate_predictions("test", predicted["test"]),
            "features": rank_features(pipeline),
            "learning": learning,
        }
        if folds:
            held_out, (tables["learning"], *_) = zip(*map(wait_for, folds), strict=True)
            out_of_fold = join_folds(held_out, drawn)
            scores |= score_folds(target["train"], out_of_fold)
            tables["out_of_fold"] = tabulate_predictions("train", out_of_fold)
        timings = {"fit_seconds": seconds, "predict_seconds_per_row": time_pipeline(pipeline)}
    return Trained(pipeline, scores, tables, timings)


def begin_fit(name: str) -> None:
    """Begin `fit_model`, and leave what it returns where it was fitted."""
    fit_model(name)


def train_model(name: str) -> dict[str, float]:
    """Fit a model and write its files; returns timings in seconds. Raises InputError as `fit_model` does."""
    return write_trained(name, fit_model(name))


def write_trained(name: str, trained: Trained) -> dict[str, float]:
    """Write the files of a fitted model, and say how good it is; returns timings in seconds."""
    write_results(name, trained.pipeline, trained.scores, trained.tables)
    described = describe_scores(f"train@{name}", trained.scores)
    print(f"{described}; fitted in {trained.timings['fit_seconds']:.2f} s", flush=True)
    return trained.timings
