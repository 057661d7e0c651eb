"""train@<model>: fit one model, score it, and show it in MLflow.

Reads   params.yaml (fit and the model's own section), data/prepared/
Writes  models/<model> (raw rows in, the target out), metrics/<model>.json, scores/models/<model>/, one MLflow run
"""

import time

from sklearn.pipeline import Pipeline
from threadpoolctl import threadpool_limits

from stages.model.estimators import (
    MODELS,
    build_estimator,
    build_regressor,
    find_regressor,
    predict_target,
    require_model,
    round_coefficients,
)
from stages.model.folds import cross_validate, start_aside
from stages.model.plots import rank_features, trace_learning
from stages.model.results import (
    PARTS,
    SAMPLE,
    describe_scores,
    load_object,
    read_features,
    read_table,
    read_targets,
    score_parts,
    tabulate_predictions,
    time_pipeline,
    write_results,
)
from stages.shared.cli import make_parser, run_command
from stages.shared.files import PREPARED
from stages.shared.params import Fit, read_mapping, read_section


def train(name: str) -> None:
    fit, model = read_section(Fit), require_model(name)
    regressor = build_regressor(name, read_mapping(name), fit.seed, fit.threads)
    estimator = build_estimator(regressor, model, fit.log_target)
    target, encoder, folds = read_targets(), load_object(PREPARED / "encoder.joblib"), None
    with threadpool_limits(fit.threads):
        if fit.cv_folds:  # beside the import of MLflow, which takes as long
            folds = start_aside(cross_validate, encoder, estimator, read_table("rows_train"), target["train"], fit)
        from stages.tracking.runs import open_run

        with open_run(name, model.title) as log_results:
            X = read_features("train")
            print(f"train@{name}: {model.title} on {len(X)} rows of {X.shape[1]} features", flush=True)
            started = time.perf_counter()
            estimator.fit(X, target["train"])
            seconds = time.perf_counter() - started
            learning = trace_learning(estimator, {} if folds else {"train": (X[:SAMPLE], target["train"][:SAMPLE])})
            del X  # large tables need the memory
            round_coefficients(find_regressor(estimator))
            predicted = {part: predict_target(estimator, read_features(part)) for part in PARTS}
            scores = score_parts(target, predicted, fit.seed, model.title)
            pipeline = Pipeline([("encoder", encoder), ("estimator", estimator)])
            tables = {
                "predictions": tabulate_predictions("test", predicted["test"]),
                "features": rank_features(pipeline),
                "learning": learning,
            }
            if folds:
                validation = folds.result()
                scores |= validation.scores
                tables["learning"] = validation.learning
                tables["out_of_fold"] = tabulate_predictions("train", validation.predicted)
            write_results(name, pipeline, scores, tables)
            log_results({"fit_seconds": seconds, "predict_seconds_per_row": time_pipeline(pipeline)})
    print(f"{describe_scores(f'train@{name}', scores)}; fitted in {seconds:.2f} s")


def main() -> None:
    parser = make_parser("train", __doc__, "ridge")
    parser.add_argument("model", help=f"one of {', '.join(MODELS)}")
    train(parser.parse_args().model)


if __name__ == "__main__":
    run_command(main)
