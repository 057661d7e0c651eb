"""train@<model>: fit one model, score it, and show it in MLflow.

Reads   params.yaml (fit and the model's own section), data/prepared/
Writes  models/<model> (raw rows in, dollars out), metrics/<model>.json, plots/<model>/, one MLflow run
"""

import argparse
import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple

import joblib
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from stages.background import run_aside
from stages.edge import InputError, run_stage
from stages.features import Encoder
from stages.files import PREPARED, metrics_file, model_file, plot_file, read_yaml, write_json, write_whole
from stages.models import MODELS, build_estimator, build_regressor, find_regressor, round_coefficients
from stages.params import Fit, read_section
from stages.plots import bound_rmse, rank_features, tabulate_predictions, trace_learning
from stages.scoring import bound_metrics, rmse, rmsle, score_predictions

if TYPE_CHECKING:
    from stages.tracking import Logging

SAMPLE = 10_000  # rows that are enough for a learning curve and for a predict time


class Fold(NamedTuple):
    """A pipeline, the training rows that it was fitted on, and those held out, by position."""

    pipeline: Pipeline
    fitted: np.ndarray
    held_out: np.ndarray


def find_fittable(y: pd.DataFrame, fit: Fit) -> np.ndarray:
    """Which training rows the fit sees, (n_rows,): all, or all but the outliers."""
    return ~y["outlier"].to_numpy() if fit.drop_outliers else np.ones(len(y), dtype=bool)


def fit_folds(encoder: Encoder, estimator: BaseEstimator, rows: pd.DataFrame, y: pd.DataFrame, fit: Fit) -> list[Fold]:
    """Encoder and estimator fitted anew on each of `fit.cv_folds` folds of the training rows.

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
    encoder: Encoder, estimator: BaseEstimator, y: pd.DataFrame, fit: Fit
) -> tuple[dict[str, float], pd.DataFrame | None]:
    """Scores over all folds of the training rows, and how the first fold's booster learned; nothing without folds."""
    if not fit.cv_folds:
        return {}, None
    rows = read_table("rows_train")
    folds = fit_folds(encoder, estimator, rows, y, fit)
    first, sides = folds[0], {}
    for side, positions in (("train", first.fitted), ("validation", first.held_out)):
        sample = positions[:SAMPLE]
        sides[side] = first.pipeline["encoder"].transform(rows.iloc[sample]), y["target"].to_numpy()[sample]
    return score_folds(folds, rows, y), trace_learning(first.pipeline["estimator"], sides)


def read_features(part: str) -> np.ndarray:
    """Encoded rows, float32 (n_rows, n_features)."""
    return read_table(f"X_{part}").to_numpy()


def score_parts(y: dict[str, pd.DataFrame], predicted: dict[str, np.ndarray], seed: int) -> dict[str, float]:
    """Every metric on training and test rows, outliers included, and intervals on the test rows."""
    metrics: dict[str, float] = {}
    for part, prices in predicted.items():
        metrics |= score_predictions(y[part]["target"].to_numpy(), prices, part)
    return metrics | bound_metrics(y["test"]["target"].to_numpy(), predicted["test"], "test", seed)


def time_pipeline(pipeline: Pipeline, rows: pd.DataFrame) -> dict[str, float]:
    """Seconds from a raw row to its price, when many come at once."""
    started = time.perf_counter()
    pipeline.predict(rows)
    return {"predict_seconds_per_row": (time.perf_counter() - started) / len(rows)}


def check_against_median(metrics: dict[str, float], y: dict[str, pd.DataFrame], name: str) -> None:
    """Raises InputError if the model is no better than saying the median price every time."""
    actual = y["test"]["target"].to_numpy()
    median = float(rmse(actual, np.full(len(actual), y["train"]["target"].median())))
    if not metrics["test_rmse"] < median:
        raise InputError(
            f"{MODELS[name].title} is no better than the median price of the training rows: test RMSE "
            f"{metrics['test_rmse']:,.0f} against {median:,.0f}; look at section {name} of params.yaml"
        )


def write_plots(name: str, tables: dict[str, pd.DataFrame]) -> None:
    """The tables behind the plots of a model, by kind, each whole or not at all."""
    for kind, table in tables.items():
        table.insert(0, "model", MODELS[name].title)
        with write_whole(plot_file(name, kind)) as part:
            table.to_csv(part, index=False)


def read_table(name: str) -> pd.DataFrame:
    """One of the tables that prepare wrote. Raises InputError if it has not run."""
    try:
        return pd.read_parquet(PREPARED / f"{name}.parquet")
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file; run `dvc repro prepare` first") from None


def open_run(name: str, title: str) -> "AbstractContextManager[Logging]":
    """`tracking.open_run`, imported late: a bad parameter need not wait for MLflow, nor the folds."""
    from stages.tracking import open_run

    return open_run(name, title)


def train(name: str) -> None:
    fit, title = read_section(Fit), MODELS[name].title if name in MODELS else name
    regressor = build_regressor(name, read_yaml("params.yaml").get(name), fit.seed, fit.threads)
    y = {part: read_table(f"y_{part}") for part in ("train", "test")}
    encoder = joblib.load(PREPARED / "encoder.joblib")
    estimator = build_estimator(regressor, MODELS[name], fit.log_target)

    with (
        threadpool_limits(fit.threads),
        run_aside(cross_validate, encoder, estimator, y["train"], fit) as find_validation,
        open_run(name, title) as (log_model, log_outcome),
    ):
        fittable, target = find_fittable(y["train"], fit), y["train"]["target"].to_numpy()
        X = read_features("train")[fittable]
        print(f"train@{name}: {title} on {len(X)} rows of {X.shape[1]} features", flush=True)
        started = time.perf_counter()
        estimator.fit(X, target[fittable])
        round_coefficients(find_regressor(estimator))
        timings = {"fit_seconds": time.perf_counter() - started}
        seen = X[:SAMPLE].copy(), target[fittable][:SAMPLE]
        del X  # large tables need the memory
        predicted = {part: estimator.predict(read_features(part)) for part in ("train", "test")}
        metrics = score_parts(y, predicted, fit.seed)
        check_against_median(metrics, y, name)
        pipeline = Pipeline([("encoder", encoder), ("estimator", estimator)])
        log_model(pipeline)  # while the folds run aside
        cv_scores, learning = find_validation()
        with write_whole(model_file(name)) as part:
            joblib.dump(pipeline, part)
        write_json(metrics_file(name), {"model": title, **metrics, **cv_scores})
        plotted = {
            "predictions": tabulate_predictions(y["test"]["target"], predicted["test"]),
            "features": rank_features(pipeline),
            "rmse": bound_rmse(metrics),
            "learning": trace_learning(estimator, {"train": seen}) if learning is None else learning,
        }
        write_plots(name, plotted)
        log_outcome(timings | time_pipeline(pipeline, read_table("rows_test").head(SAMPLE)))
    print(
        f"train@{name}: fitted in {timings['fit_seconds']:.2f} s; on {len(y['test'])} test rows "
        f"RMSE {metrics['test_rmse']:,.0f}, MAE {metrics['test_mae']:,.0f}, R² {metrics['test_r2']:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__.splitlines()[0])
    parser.add_argument("model", help=f"one of {', '.join(MODELS)}")
    train(parser.parse_args().model)


if __name__ == "__main__":
    run_stage(main)
