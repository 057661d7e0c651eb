"""The blend of the models on the prepared tables: members and weights chosen, fitted and scored."""

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from stages.model.blend import Blend, choose_weights, weigh
from stages.model.catalogue import BLEND, require_model
from stages.model.estimators import predict_target, round_estimator
from stages.model.folds import Folds, draw_folds, score_folds
from stages.model.results import (
    PARTS,
    Parts,
    describe_scores,
    load_object,
    read_apart,
    read_features,
    read_fit,
    read_scores_file,
    read_targets,
    score_parts,
    tabulate_predictions,
    time_pipeline,
    write_results,
)
from stages.shared import params
from stages.shared.files import model_file
from stages.shared.params import read_section


def validate(
    target: np.ndarray, predicted: np.ndarray, within: float, folds: Folds, log_target: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n_models,) from all out-of-fold rows; and predictions (n_rows,) in which no row chose its own weights.

    predicted: out-of-fold, (n_models, n_rows). A fold is predicted with the weights that the other folds choose, so
    that choosing does not flatter the score.
    """
    space = np.log1p if log_target else np.asarray
    y, columns = space(target), space(predicted)
    nested = np.empty(len(target))
    for others, held_out in folds:
        weights = choose_weights(y[others], columns[:, others], within)
        nested[held_out] = weigh(list(predicted[:, held_out]), list(weights), log_target)
    return choose_weights(y, columns, within), nested


def compose(weights: dict[str, float], target: np.ndarray, log_target: bool) -> Pipeline:
    """One pipeline from raw rows to the target, in which the encoder runs once for all members.

    The members are fitted again, to the same numbers: a tree that is loaded and written again has other bytes.
    """
    pipelines = {name: load_object(model_file(name)) for name in weights}
    members = [(name, clone(pipeline["estimator"])) for name, pipeline in pipelines.items()]
    blend = Blend(members, list(weights.values()), log_target).fit(read_features("train"), target)
    round_estimator(blend)
    return Pipeline([("encoder", next(iter(pipelines.values()))["encoder"]), ("estimator", blend)])


def tabulate_members(weights: dict[str, float]) -> pd.DataFrame:
    """What a blend's pictures show in place of features: its members, the heaviest first."""
    table = pd.DataFrame({"feature": [require_model(name).title for name in weights], "weight": weights.values()})
    return table.sort_values("weight", ascending=False, kind="stable")


def choose_members(names: list[str]) -> tuple[dict[str, float], np.ndarray]:
    """Each member's weight, and the blend's out-of-fold predictions (n_rows,), empty without cross-validation.

    Raises InputError if params.yaml, or what the models left, is not what a blend is made of.
    """
    fit, settings = read_fit(), read_section(params.Blend)
    weights, nested = np.full(len(names), 1 / len(names)), np.empty(0)
    if fit.cv_folds:
        columns = [read_scores_file(name, "out_of_fold")["predicted"] for name in names]
        target = read_targets()["train"]
        folds = draw_folds(len(target), fit, read_apart())
        weights, nested = validate(target, np.array(columns), settings.within, folds, bool(fit.log_target))
    return {name: float(weight) for name, weight in zip(names, weights, strict=True) if weight}, nested


def train_blend(members: dict[str, float], out_of_fold: np.ndarray) -> dict[str, float]:
    """Fit the members, score the blend and write its files; returns timings in seconds."""
    fit, target = read_fit(), read_targets()
    with threadpool_limits(fit.threads):
        pipeline = compose(members, target["train"], bool(fit.log_target))
    predicted = {part: predict_target(pipeline["estimator"], read_features(part)) for part in PARTS}
    return write_blend(pipeline, members, predicted, out_of_fold)


def write_blend(
    pipeline: Pipeline, members: dict[str, float], predicted: Parts, out_of_fold: np.ndarray
) -> dict[str, float]:
    """The scores and files of a fitted blend, from what it predicts for both parts; returns timings in seconds."""
    target = read_targets()
    scores = score_parts(target, predicted, read_fit().seed, BLEND)
    tables = {
        "predictions": tabulate_predictions("test", predicted["test"]),
        "features": tabulate_members(members),
        "learning": pd.DataFrame(columns=["rows", "iteration", "rmse"]),
    }
    if len(out_of_fold):
        scores |= score_folds(target["train"], out_of_fold)
        tables["out_of_fold"] = tabulate_predictions("train", out_of_fold)
    write_results("blend", pipeline, scores, tables)
    print(f"blend: {', '.join(f'{weight:.0%} {name}' for name, weight in members.items())}")
    print(describe_scores("blend", scores), flush=True)
    return {"predict_seconds_per_row": time_pipeline(pipeline)}
