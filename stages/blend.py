"""blend: a ninth candidate, the weighted mean of the models that are nearly as good as the best.

Reads   params.yaml (blend, fit), scores/models/ (the out-of-fold predictions), models/, data/prepared/
Writes  models/blend (raw rows in, the target out), metrics/blend.json, scores/blend/, one MLflow run
"""

import numpy as np
import pandas as pd
from sklearn.base import clone
from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from stages.model.blend import Blend, choose_weights, mean_of
from stages.model.estimators import predict_target, require_model, require_models, round_estimator
from stages.model.folds import draw_folds, score_folds
from stages.model.results import (
    PARTS,
    describe_scores,
    load_object,
    read_features,
    read_scores_file,
    read_targets,
    score_parts,
    tabulate_predictions,
    time_pipeline,
    write_results,
)
from stages.shared import params
from stages.shared.cli import make_parser, run_command
from stages.shared.files import model_file
from stages.shared.params import Fit, read_section

TITLE = "Blend"


def validate(target: np.ndarray, predicted: np.ndarray, within: float, fit: Fit) -> tuple[np.ndarray, np.ndarray]:
    """Weights (n_models,) from all out-of-fold rows; and predictions (n_rows,) in which no row chose its own weights.

    predicted: out-of-fold, (n_models, n_rows). A fold is predicted with the weights that the other folds choose, so
    that choosing does not flatter the score.
    """
    space = np.log1p if fit.log_target else np.asarray
    y, columns = space(target), space(predicted)
    nested = np.empty(len(target))
    for others, held_out in draw_folds(len(target), fit):
        weights = choose_weights(y[others], columns[:, others], within)
        nested[held_out] = mean_of(list(predicted[:, held_out]), list(weights), fit.log_target)
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


def blend(names: list[str]) -> None:
    fit, settings, target = read_section(Fit), read_section(params.Blend), read_targets()
    weights, validated, tables = np.full(len(names), 1 / len(names)), {}, {}
    if fit.cv_folds:
        columns = [read_scores_file(name, "out_of_fold")["predicted"] for name in names]
        weights, nested = validate(target["train"], np.array(columns), settings.within, fit)
        validated = score_folds(target["train"], nested)
        tables["out_of_fold"] = tabulate_predictions("train", nested)
    chosen = {name: round(float(weight), 6) for name, weight in zip(names, weights, strict=True) if weight}

    from stages.tracking.runs import open_run

    with open_run("blend", TITLE) as log_results:
        with threadpool_limits(fit.threads):
            pipeline = compose(chosen, target["train"], fit.log_target)
        predicted = {part: predict_target(pipeline["estimator"], read_features(part)) for part in PARTS}
        scores = score_parts(target, predicted, fit.seed, TITLE) | validated
        tables |= {
            "predictions": tabulate_predictions("test", predicted["test"]),
            "features": tabulate_members(chosen),
            "learning": pd.DataFrame(columns=["rows", "iteration", "rmse"]),
        }
        write_results("blend", pipeline, scores, tables)
        log_results({"predict_seconds_per_row": time_pipeline(pipeline)})
    print(f"blend: {', '.join(f'{weight:.0%} {name}' for name, weight in chosen.items())}")
    print(describe_scores("blend", scores))


def main() -> None:
    parser = make_parser("blend", __doc__, "--models ridge xgboost")
    parser.add_argument("--models", nargs="+", required=True, help="those that dvc.yaml lists")
    blend(require_models(parser.parse_args().models))


if __name__ == "__main__":
    run_command(main)
