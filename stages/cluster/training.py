"""What stages.model.training, stages.model.blending and the champion's refit do, on a Dask cluster.

Models, metrics and tables are written as those of one machine, so nothing behind asks where they were fitted.
"""

import tempfile
import time
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from distributed import Client
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import Pipeline

from stages.cluster.connection import connect, map_parts
from stages.cluster.encoding import encode_part, fit_encoder
from stages.cluster.fitting import SEARCH_FOLDS, Task, fit_all, open_table, predict_piece
from stages.cluster.pieces import Piece, draw_folds, read_piece
from stages.model.blend import Blend
from stages.model.blending import write_blend
from stages.model.catalogue import require_model
from stages.model.estimators import find_regressor
from stages.model.folds import score_folds
from stages.model.plots import rank_features, trace_learning
from stages.model.results import (
    PARTS,
    SAMPLE,
    list_files,
    load_object,
    read_fit,
    read_targets,
    score_parts,
    tabulate_predictions,
    time_pipeline,
)
from stages.model.training import Trained, check_model, write_trained
from stages.shared.cli import InputError
from stages.shared.files import PREPARED, model_file
from stages.shared.params import Cluster, Fit, read_mapping, read_section

__all__ = ["begin_fit", "check_model", "refit_pipeline", "train_blend", "train_model"]


def list_pieces(part: str, fit: Fit) -> list[Piece]:
    """The encoded parts of the training or the test rows."""
    files = zip(list_files(f"X_{part}"), list_files(f"y_{part}"), strict=True)
    return [Piece(X.resolve(), y.resolve(), bool(fit.log_target), fit.seed) for X, y in files]


def predict_all(client: Client, part: str, estimators: list[BaseEstimator], n_folds: int) -> np.ndarray:
    """Predictions (n_rows, 1 or 2) as `predict_piece`. Raises InputError if they are not finite."""
    pieces = list_pieces(part, read_fit())
    shared = {"estimators": estimators, "n_folds": n_folds}
    predicted = np.concatenate(map_parts(client, predict_piece, pieces, f"predict {part}", **shared))
    if not np.isfinite(predicted).all():
        raise InputError("the model predicts numbers that are not finite; look at its section of params.yaml")
    return predicted


def trace(estimators: list[BaseEstimator], piece: Piece, n_folds: int) -> pd.DataFrame:
    """The learning curve on the rows of one part, those of the first fold apart if there is cross-validation."""
    X, _, ids = read_piece(piece)
    y = pd.read_parquet(piece.y)["target"].to_numpy()
    first = draw_folds(ids, piece.seed, n_folds) == 0
    if len(estimators) == 1:
        return trace_learning(estimators[0], {"train": (X[:SAMPLE], y[:SAMPLE])})
    sides = {"train": ~first, "validation": first}
    return trace_learning(estimators[1], {side: (X[rows][:SAMPLE], y[rows][:SAMPLE]) for side, rows in sides.items()})


@lru_cache(1)
def fit_model(name: str) -> Trained:
    """As `stages.model.training.fit_model`, but the encoder is not fitted again in each fold."""
    fit, cluster, title, target = read_fit(), read_section(Cluster), require_model(name).title, read_targets()
    encoder, pieces, n_folds = load_object(PREPARED / "encoder.joblib"), list_pieces("train", fit), fit.cv_folds
    n_folds = n_folds or SEARCH_FOLDS
    with connect(str(cluster.address)) as client:
        table = open_table(client, pieces, len(encoder.feature_names_), n_folds, f"train@{name}")
        print(f"train@{name}: {title} on {table.size.rows} rows of {table.size.features} features", flush=True)
        started = time.perf_counter()
        estimators = fit_all(client, Task(name, read_mapping(name), fit, cluster.sample_rows), table)
        seconds = time.perf_counter() - started
        both = predict_all(client, "train", estimators, n_folds)
        predicted = {"train": both[:, 0], "test": predict_all(client, "test", estimators[:1], n_folds)[:, 0]}
    pipeline = Pipeline([("encoder", encoder), ("estimator", estimators[0])])
    scores = score_parts(target, predicted, fit.seed, title)
    if sample_rows := getattr(find_regressor(estimators[0]), "sample_rows_", None):
        scores["sample_rows"] = sample_rows
    tables = {
        "predictions": tabulate_predictions("test", predicted["test"]),
        "features": rank_features(pipeline),
        "learning": trace(estimators, pieces[0], n_folds),
    }
    if fit.cv_folds:
        scores |= score_folds(target["train"], both[:, 1])
        tables["out_of_fold"] = tabulate_predictions("train", both[:, 1])
    timings = {"fit_seconds": seconds, "predict_seconds_per_row": time_pipeline(pipeline)}
    return Trained(pipeline, scores, tables, timings)


def begin_fit(name: str) -> None:
    """Begin `fit_model`, and leave what it returns where it was fitted."""
    fit_model(name)


def train_model(name: str) -> dict[str, float]:
    """Fit a model and write its files; returns timings in seconds. Raises InputError as `fit_model` does."""
    return write_trained(name, fit_model(name))


def train_blend(members: dict[str, float], out_of_fold: np.ndarray) -> dict[str, float]:
    """The members as they were fitted, blended; the blend's scores and files. Returns timings in seconds."""
    fit = read_fit()
    pipelines = {name: load_object(model_file(name)) for name in members}
    blend = Blend([(n, clone(p["estimator"])) for n, p in pipelines.items()], [*members.values()], bool(fit.log_target))
    blend.fitted_ = [pipeline["estimator"] for pipeline in pipelines.values()]
    pipeline = Pipeline([("encoder", next(iter(pipelines.values()))["encoder"]), ("estimator", blend)])
    with connect(str(read_section(Cluster).address)) as client:
        predicted = {part: predict_all(client, part, [blend], 1)[:, 0] for part in PARTS}
    return write_blend(pipeline, members, predicted, out_of_fold)


def refit_pipeline(pipeline: Pipeline, name: str) -> Pipeline:
    """Encoder and estimator fitted again, with the same settings, on training and test rows together."""
    fit, cluster = read_fit(), read_section(Cluster)
    fit = fit.model_copy(update={"cv_folds": 0})
    estimator = pipeline["estimator"]
    members = dict(zip([n for n, _ in estimator.members], estimator.fitted_, strict=True)) if name == "blend" else {}
    with connect(str(cluster.address)) as client, tempfile.TemporaryDirectory(dir=PREPARED.parent) as folder:
        rows = [file.resolve() for part in PARTS for file in list_files(f"rows_{part}")]
        encoder = fit_encoder(client, rows, pipeline["encoder"].dictionary)
        pieces = []
        for part in PARTS:
            encoded = Path(folder, part).resolve()
            encoded.mkdir()
            shared = {"encoder": encoder, "training": True, "folder": encoded}
            map_parts(
                client, encode_part, [f for f in rows if f.parent.name == f"rows_{part}.parquet"], "champion", **shared
            )
            pieces += [piece._replace(X=encoded / piece.X.name) for piece in list_pieces(part, fit)]
        table = open_table(client, pieces, len(encoder.feature_names_), SEARCH_FOLDS, "champion")
        fitted = []
        for member, judged in (members or {name: estimator}).items():
            settings = list_settings(member, judged)
            fitted += fit_all(client, Task(member, settings, fit, cluster.sample_rows), table)
    if members:
        estimator = clone(estimator)
        estimator.fitted_ = fitted
    else:
        (estimator,) = fitted
    return Pipeline([("encoder", encoder), ("estimator", estimator)])


def list_settings(name: str, judged: BaseEstimator) -> dict[str, object]:
    """A section of params.yaml in which nothing is left to be found: that of the regressor that was judged."""
    found = find_regressor(judged).get_params()
    section = read_mapping(name)
    return {key: found[key] for key in section if key in found}
