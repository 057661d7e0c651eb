"""train@<model>: fit one model, score it, and show it in MLflow.

Reads   params.yaml (fit and the model's own section), data/prepared/
Writes  models/<model> (raw rows in, the target out), metrics/<model>.json, scores/<model>/, one MLflow run
"""

import time

import joblib
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from stages.model.estimators import (
    MODELS,
    build_estimator,
    build_regressor,
    find_regressor,
    require_model,
    round_coefficients,
)
from stages.model.folds import SAMPLE, cross_validate, find_fittable, start_aside
from stages.model.metrics import bootstrap_intervals, rmse, score_predictions
from stages.model.plots import rank_features, tabulate_predictions, trace_learning
from stages.shared.cli import InputError, make_parser, run_command
from stages.shared.files import PREPARED, metrics_file, model_file, scores_file, write_json, write_whole
from stages.shared.params import Fit, read_mapping, read_section

Parts = dict[str, np.ndarray]  # of the training and the test rows


def read_table(name: str) -> pd.DataFrame:
    """One of the tables that prepare wrote. Raises InputError if it has not run."""
    try:
        return pd.read_parquet(PREPARED / f"{name}.parquet")
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file; run `dvc repro prepare` first") from None


def fit_estimator(estimator: BaseEstimator, y: pd.DataFrame, fit: Fit) -> tuple[Parts, float]:
    """Fit on the encoded training rows; returns what it predicts for both parts, and the seconds of the fit.

    Raises InputError if a prediction is not finite.
    """
    fittable = find_fittable(y, fit)
    X, target = read_table("X_train").to_numpy()[fittable], y["target"].to_numpy()[fittable]
    print(f"{len(X)} rows of {X.shape[1]} features", flush=True)
    started = time.perf_counter()
    estimator.fit(X, target)
    seconds = time.perf_counter() - started
    del X  # large tables need the memory
    regressor = find_regressor(estimator)
    round_coefficients(regressor)
    predicted = {part: estimator.predict(read_table(f"X_{part}").to_numpy()) for part in ("train", "test")}
    if not all(np.isfinite(values).all() for values in predicted.values()):
        raise InputError(f"{type(regressor).__name__} predicts numbers that are not finite; look at its parameters")
    return predicted, seconds


def score_parts(y: Parts, predicted: Parts, seed: int) -> dict[str, float]:
    """Every metric on training and test rows, outliers included, and intervals on the test rows."""
    metrics: dict[str, float] = {}
    for part, values in predicted.items():
        metrics |= score_predictions(y[part], values, part)
    return metrics | bootstrap_intervals(y["test"], predicted["test"], "test", seed)


def check_against_median(metrics: dict[str, float], y: Parts, name: str) -> None:
    """Raises InputError if the model is no better than saying the median of the training rows every time."""
    median = float(rmse(y["test"], np.full(len(y["test"]), np.median(y["train"]))))
    if not metrics["test_rmse"] < median:
        raise InputError(
            f"{MODELS[name].title} is no better than the median of the training rows: test RMSE "
            f"{metrics['test_rmse']:,.0f} against {median:,.0f}; look at section {name} of params.yaml"
        )


def time_pipeline(pipeline: Pipeline, rows: pd.DataFrame) -> float:
    """Seconds from a raw row to its prediction, when many come at once."""
    started = time.perf_counter()
    pipeline.predict(rows)
    return (time.perf_counter() - started) / len(rows)


def write_outputs(name: str, pipeline: Pipeline, metrics: dict[str, float], tables: dict[str, pd.DataFrame]) -> None:
    """Model, metrics, and the tables of what it predicts and weighs, each whole or not at all."""
    with write_whole(model_file(name)) as part:
        joblib.dump(pipeline, part)
    with write_whole(scores_file(name, "").parent) as folder:
        folder.mkdir()
        for kind, table in tables.items():
            table.to_csv(folder / f"{kind}.csv", index=False)
    write_json(metrics_file(name), {"model": MODELS[name].title, **metrics})


def train(name: str) -> None:
    fit, model = read_section(Fit), require_model(name)
    regressor = build_regressor(name, read_mapping(name), fit.seed, fit.threads)
    estimator = build_estimator(regressor, model, fit.log_target)
    y = {part: read_table(f"y_{part}") for part in ("train", "test")}
    target = {part: table["target"].to_numpy() for part, table in y.items()}
    encoder = joblib.load(PREPARED / "encoder.joblib")
    folds = None
    with threadpool_limits(fit.threads):
        if fit.cv_folds:  # beside the import of MLflow, which takes as long
            folds = start_aside(cross_validate, encoder, estimator, read_table("rows_train"), y["train"], fit)
        from stages.tracking.connection import warn_of_lost_store
        from stages.tracking.runs import log_results, open_run

        with open_run(name, model.title) as run_id:
            print(f"train@{name}: {model.title} on ", end="")
            predicted, seconds = fit_estimator(estimator, y["train"], fit)
            metrics = score_parts(target, predicted, fit.seed)
            check_against_median(metrics, target, name)
            pipeline = Pipeline([("encoder", encoder), ("estimator", estimator)])
            validated, learning = folds.result() if folds else ({}, trace_learning(estimator, {}))
            tables = {
                "predictions": tabulate_predictions(y["test"]["target"], predicted["test"]),
                "features": rank_features(pipeline),
                "learning": learning,
            }
            write_outputs(name, pipeline, metrics | validated, tables)
            timings = {"fit_seconds": seconds}
            timings["predict_seconds_per_row"] = time_pipeline(pipeline, read_table("rows_test").head(SAMPLE))
            with warn_of_lost_store(name):
                log_results(run_id, name, model.title, timings)
    print(
        f"train@{name}: fitted in {seconds:.2f} s; on {len(y['test'])} test rows RMSE {metrics['test_rmse']:,.0f}, "
        f"MAE {metrics['test_mae']:,.0f}, R² {metrics['test_r2']:.4f}"
    )


def main() -> None:
    parser = make_parser("train", __doc__, "ridge")
    parser.add_argument("model", help=f"one of {', '.join(MODELS)}")
    train(parser.parse_args().model)


if __name__ == "__main__":
    run_command(main)
