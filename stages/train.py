"""train@<model>: fit one model, score it, and show it in MLflow.

Reads   params.yaml (fit and the model's own section), data/prepared/
Writes  models/<model> (raw rows in, dollars out), metrics/<model>.json, plots/<model>/, and one MLflow run
"""

import argparse
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

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
from stages.files import PREPARED, metrics_file, model_file, predictions_file, write_json, write_whole
from stages.models import MODELS, build_estimator, build_regressor
from stages.params import Fit, read_section, read_yaml
from stages.scoring import bound_metrics, rmse, rmsle, score_predictions


def cross_validate(
    encoder: Encoder, estimator: BaseEstimator, rows: pd.DataFrame, y: pd.DataFrame, fit: Fit
) -> dict[str, float]:
    """Out-of-fold scores on the training rows, encoder and estimator fitted anew on each fold.

    rows: raw (n_rows, n_columns). y: target and outlier flag. Outliers stay out of the fits; the scores come
    with them, and without (`cv_rmsle_inliers`). Nothing is scored if `fit.cv_folds` is 0.
    """
    if not fit.cv_folds:
        return {}
    target, outlier = y["target"].to_numpy(), y["outlier"].to_numpy()
    predicted = np.empty(len(y))
    for fold, held_out in KFold(fit.cv_folds, shuffle=True, random_state=fit.seed).split(rows):
        kept = fold[~outlier[fold]] if fit.drop_outliers else fold
        pipeline = Pipeline([("encoder", clone(encoder)), ("estimator", clone(estimator))])
        predicted[held_out] = pipeline.fit(rows.iloc[kept], target[kept]).predict(rows.iloc[held_out])
    inlier = ~outlier
    return {
        "cv_rmse": round(float(rmse(target, predicted)), 2),
        "cv_rmsle": round(float(rmsle(target, predicted)), 6),
        "cv_rmsle_inliers": round(float(rmsle(target[inlier], predicted[inlier])), 6),
    }


def fit_estimator(estimator: BaseEstimator, X: pd.DataFrame, y: pd.DataFrame, drop_outliers: bool) -> BaseEstimator:
    """The estimator fitted on encoded rows (n_rows, n_features), without the outliers if so wished."""
    kept = ~y["outlier"].to_numpy() if drop_outliers else slice(None)
    return estimator.fit(X.to_numpy()[kept], y["target"].to_numpy()[kept])


def score_pipeline(
    pipeline: Pipeline, tables: dict[str, pd.DataFrame], seed: int
) -> tuple[dict[str, float], dict[str, float]]:
    """Metrics of the pipeline from raw rows to dollars on both parts, and its predict time per row."""
    metrics: dict[str, float] = {}
    timings: dict[str, float] = {}
    for part in ("train", "test"):
        rows, y = tables[f"rows_{part}"], tables[f"y_{part}"]["target"].to_numpy()
        started = time.perf_counter()
        predicted = pipeline.predict(rows)
        timings = {"predict_seconds_per_row": (time.perf_counter() - started) / len(rows)}
        metrics |= score_predictions(y, predicted, part)
    return metrics | bound_metrics(y, predicted, "test", seed), timings


def check_against_median(metrics: dict[str, float], tables: dict[str, pd.DataFrame], name: str) -> None:
    """Raises InputError if the model is no better than saying the median price every time."""
    y = tables["y_test"]["target"].to_numpy()
    median = float(rmse(y, np.full(len(y), tables["y_train"]["target"].median())))
    if not metrics["test_rmse"] < median:
        raise InputError(
            f"{MODELS[name].title} is no better than the median price of the training rows: test RMSE "
            f"{metrics['test_rmse']:,.0f} against {median:,.0f}; look at section {name} of params.yaml"
        )


def write_predictions(name: str, y: pd.DataFrame, predicted: np.ndarray) -> None:
    """Actual and predicted price of every test row, and their difference, in dollars."""
    frame = pd.DataFrame({"actual": y["target"], "predicted": predicted, "residual": y["target"] - predicted})
    with write_whole(predictions_file(name)) as part:
        frame.round(2).to_csv(part)


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

    with (
        threadpool_limits(fit.threads),
        run_aside(cross_validate, encoder, estimator, tables["rows_train"], tables["y_train"], fit) as find_cv_scores,
        open_run(name, MODELS[name].title) as log_outcome,
    ):
        X, y = tables["X_train"], tables["y_train"]
        print(f"train@{name}: {MODELS[name].title} on {len(X)} rows of {X.shape[1]} features", flush=True)
        started = time.perf_counter()
        fit_estimator(estimator, X, y, fit.drop_outliers)
        timings = {"fit_seconds": time.perf_counter() - started}
        pipeline = Pipeline([("encoder", encoder), ("estimator", estimator)])
        metrics, predict_timings = score_pipeline(pipeline, tables, fit.seed)
        check_against_median(metrics, tables, name)
        metrics |= find_cv_scores()
        with write_whole(model_file(name)) as part:
            joblib.dump(pipeline, part)
        write_json(metrics_file(name), {"model": MODELS[name].title, **metrics})
        write_predictions(name, tables["y_test"], pipeline.predict(tables["rows_test"]))
        log_outcome(pipeline, timings | predict_timings)
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
