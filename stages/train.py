"""train@<model>: fit one model, score it, and show it in MLflow.

Reads   params.yaml (fit and the model's own section), data/prepared/
Writes  models/<model> (raw rows in, dollars out), metrics/<model>.json, plots/<model>/, one MLflow run
"""

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

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
from stages.models import MODELS, build_estimator, build_regressor
from stages.params import Fit, read_section
from stages.plots import bound_rmse, rank_features, tabulate_predictions, trace_learning
from stages.scoring import bound_metrics, rmse, rmsle, score_predictions


class Fold(NamedTuple):
    """A pipeline, the training rows that it was fitted on, and those held out, by position."""

    pipeline: Pipeline
    fitted: np.ndarray
    held_out: np.ndarray


def fit_folds(encoder: Encoder, estimator: BaseEstimator, rows: pd.DataFrame, y: pd.DataFrame, fit: Fit) -> list[Fold]:
    """Encoder and estimator fitted anew on each fold of the training rows; none if `fit.cv_folds` is 0.

    rows: raw (n_rows, n_columns). y: target and outlier flag; outliers stay out of the fits.
    """
    if not fit.cv_folds:
        return []
    target, outlier = y["target"].to_numpy(), y["outlier"].to_numpy()
    folds = []
    for fitted, held_out in KFold(fit.cv_folds, shuffle=True, random_state=fit.seed).split(rows):
        kept = fitted[~outlier[fitted]] if fit.drop_outliers else fitted
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
    encoder: Encoder, estimator: BaseEstimator, rows: pd.DataFrame, y: pd.DataFrame, fit: Fit
) -> tuple[dict[str, float], pd.DataFrame | None]:
    """Scores over all folds, and how the first fold's booster learned; nothing without folds."""
    folds = fit_folds(encoder, estimator, rows, y, fit)
    if not folds:
        return {}, None
    parts = {"train": folds[0].fitted, "validation": folds[0].held_out}
    sides = {side: (rows.iloc[part], y["target"].to_numpy()[part]) for side, part in parts.items()}
    return score_folds(folds, rows, y), trace_learning(folds[0].pipeline, sides)


def fit_estimator(estimator: BaseEstimator, X: pd.DataFrame, y: pd.DataFrame, drop_outliers: bool) -> BaseEstimator:
    """The estimator fitted on encoded rows (n_rows, n_features), without the outliers if so wished."""
    kept = ~y["outlier"].to_numpy() if drop_outliers else slice(None)
    return estimator.fit(X.to_numpy()[kept], y["target"].to_numpy()[kept])


def predict_parts(estimator: BaseEstimator, tables: dict[str, pd.DataFrame]) -> dict[str, np.ndarray]:
    """Prices in dollars of the encoded training and test rows."""
    return {part: estimator.predict(tables[f"X_{part}"].to_numpy()) for part in ("train", "test")}


def score_parts(predicted: dict[str, np.ndarray], tables: dict[str, pd.DataFrame], seed: int) -> dict[str, float]:
    """Every metric on both parts, outliers included, and intervals on the test rows."""
    metrics: dict[str, float] = {}
    for part, prices in predicted.items():
        metrics |= score_predictions(tables[f"y_{part}"]["target"].to_numpy(), prices, part)
    return metrics | bound_metrics(tables["y_test"]["target"].to_numpy(), predicted["test"], "test", seed)


def time_pipeline(pipeline: Pipeline, rows: pd.DataFrame) -> dict[str, float]:
    """Seconds from a raw row to its price, when many come at once."""
    started = time.perf_counter()
    pipeline.predict(rows)
    return {"predict_seconds_per_row": (time.perf_counter() - started) / len(rows)}


def check_against_median(metrics: dict[str, float], tables: dict[str, pd.DataFrame], name: str) -> None:
    """Raises InputError if the model is no better than saying the median price every time."""
    y = tables["y_test"]["target"].to_numpy()
    median = float(rmse(y, np.full(len(y), tables["y_train"]["target"].median())))
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


def read_tables() -> dict[str, pd.DataFrame]:
    """What prepare wrote, by name. Raises InputError if it has not run."""
    names = [f"{kind}_{part}" for kind in ("rows", "X", "y") for part in ("train", "test")]
    try:
        return {name: pd.read_parquet(PREPARED / f"{name}.parquet") for name in names}
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file; run `dvc repro prepare` first") from None


def open_run(name: str, title: str) -> AbstractContextManager[Callable[[Pipeline, dict[str, float]], None]]:
    """`tracking.open_run`, imported late: a bad parameter need not wait for MLflow, nor the folds."""
    from stages.tracking import open_run

    return open_run(name, title)


def train(name: str) -> None:
    fit = read_section(Fit)
    regressor = build_regressor(name, read_yaml("params.yaml").get(name), fit.seed, fit.threads)
    tables = read_tables()
    encoder = joblib.load(PREPARED / "encoder.joblib")
    estimator = build_estimator(regressor, MODELS[name], fit.log_target)

    title = MODELS[name].title
    validation = (encoder, estimator, tables["rows_train"], tables["y_train"], fit)
    with (
        threadpool_limits(fit.threads),
        run_aside(cross_validate, *validation) as find_validation,
        open_run(name, title) as log_outcome,
    ):
        X, y = tables["X_train"], tables["y_train"]
        print(f"train@{name}: {title} on {len(X)} rows of {X.shape[1]} features", flush=True)
        started = time.perf_counter()
        fit_estimator(estimator, X, y, fit.drop_outliers)
        timings = {"fit_seconds": time.perf_counter() - started}
        pipeline = Pipeline([("encoder", encoder), ("estimator", estimator)])
        predicted = predict_parts(estimator, tables)
        metrics = score_parts(predicted, tables, fit.seed)
        check_against_median(metrics, tables, name)
        cv_scores, learning = find_validation()
        with write_whole(model_file(name)) as part:
            joblib.dump(pipeline, part)
        write_json(metrics_file(name), {"model": title, **metrics, **cv_scores})
        if learning is None:
            learning = trace_learning(pipeline, {"train": (tables["rows_train"], y["target"].to_numpy())})
        plotted = {
            "predictions": tabulate_predictions(tables["y_test"]["target"], predicted["test"]),
            "features": rank_features(pipeline),
            "rmse": bound_rmse(metrics),
            "learning": learning,
        }
        write_plots(name, plotted)
        log_outcome(pipeline, timings | time_pipeline(pipeline, tables["rows_test"]))
    print(
        f"train@{name}: fitted in {timings['fit_seconds']:.2f} s; on {len(tables['y_test'])} test rows "
        f"RMSE {metrics['test_rmse']:,.0f}, MAE {metrics['test_mae']:,.0f}, R² {metrics['test_r2']:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m stages.train", description=__doc__.splitlines()[0])
    parser.add_argument("model", help=f"one of {', '.join(MODELS)}")
    train(parser.parse_args().model)


if __name__ == "__main__":
    run_stage(main)
