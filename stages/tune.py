"""tune: search for a model's hyperparameters by repeated cross-validation on the training rows.

Reads   params.yaml, data/prepared/ (training rows only)
Writes  optuna.db (a search goes on where it stopped), one MLflow run with a nested run for each trial, and the
        winner into the model's section of params.yaml, if it is better than what stands there
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import mlflow
import numpy as np
import optuna
import pandas as pd
from sqlalchemy.exc import SQLAlchemyError
from threadpoolctl import threadpool_limits

from stages.model.catalogue import MODELS, require_model
from stages.model.estimators import build_estimator, build_regressor
from stages.model.folds import draw_folds, fit_folds, predict_folds, score_folds
from stages.model.metrics import find_cv
from stages.model.results import load_object, read_apart, read_features, read_fit, read_table, read_targets
from stages.model.search import Training, resolve_section
from stages.shared.cli import InputError, make_parser, run_command
from stages.shared.files import PREPARED, hash_content, hash_folder
from stages.shared.params import Fit, Mlflow, read_mapping, read_section, write_params
from stages.tracking.connection import connect, explain_store_errors

STUDIES = "optuna.db"

Raw = tuple[Any, pd.DataFrame, np.ndarray]  # the unfitted encoder, the training rows, and their target (n_rows,)

# What is searched, and where: (smallest, largest, on a log scale); a list is a choice.
SPACES: dict[str, dict[str, Any]] = {
    "ridge": {"alpha": (1.0, 200.0, True)},
    "lasso": {"alpha": (0.0003, 0.03, True)},
    "decision_tree": {
        "min_samples_leaf": (4, 24, False),
        "max_depth": (5, 20, False),
        "max_features": (0.3, 1.0, False),
    },
    "random_forest": {"max_features": (0.1, 0.6, False), "min_samples_leaf": (1, 5, False)},
    "gradient_boosting": {
        "learning_rate": (0.02, 0.1, True),
        "max_depth": (2, 5, False),
        "min_samples_leaf": (3, 20, False),
        "subsample": (0.4, 1.0, False),
        "max_features": ["sqrt", "log2", 0.2],
    },
    "xgboost": {
        "learning_rate": (0.01, 0.1, True),
        "max_depth": (2, 8, False),
        "min_child_weight": (1.0, 10.0, True),
        "subsample": (0.4, 1.0, False),
        "colsample_bynode": (0.05, 0.5, True),
        "reg_lambda": (0.3, 10.0, True),
    },
    "lightgbm": {
        "learning_rate": (0.01, 0.1, True),
        "num_leaves": (3, 63, True),
        "min_child_samples": (3, 20, False),
        "subsample": (0.4, 1.0, False),
        "feature_fraction_bynode": (0.05, 0.5, True),
        "reg_lambda": (0.1, 10.0, True),
    },
}


def suggest(trial: optuna.Trial, space: dict[str, Any]) -> dict[str, Any]:
    """One point of a search space."""
    values: dict[str, Any] = {}
    for key, where in space.items():
        if isinstance(where, list):
            values[key] = trial.suggest_categorical(key, where)
        elif isinstance(where[0], int):
            values[key] = trial.suggest_int(key, where[0], where[1], log=where[2])
        else:
            values[key] = float(f"{trial.suggest_float(key, where[0], where[1], log=where[2]):.3g}")
    return values


def read_training() -> Raw:
    """The encoder, the raw training rows and their target, (n_rows,). Raises InputError if prepare has not run."""
    return load_object(PREPARED / "encoder.joblib"), read_table("rows_train"), read_targets()["train"]


def score_section(training: Raw, name: str, section: dict[str, Any], fit: Fit, repeats: int) -> float:
    """Mean cross-validated RMSLE, or RMSE, over folds drawn with consecutive seeds."""
    encoder, rows, target = training
    estimator = build_estimator(
        build_regressor(name, section, fit.seed, fit.threads), MODELS[name], bool(fit.log_target)
    )
    metric, apart = name_metric(target), read_apart()
    drawn = [fit.model_copy(update={"seed": fit.seed + repeat}) for repeat in range(repeats)]
    scores = [
        score_folds(target, predict_folds(fit_folds(encoder, estimator, rows, target, folds), rows, folds))[metric]
        for folds in (draw_folds(len(rows), settings, apart) for settings in drawn)
    ]
    return float(np.mean(scores))


def name_metric(target: np.ndarray) -> str:
    """What is searched for: the lowest of it."""
    return find_cv([score_folds(target, target)])


def try_section(
    trial: optuna.Trial, name: str, section: dict[str, Any], metric: str, score_section: Callable[..., float]
) -> float:
    """One trial: a section with some of its values replaced, scored, and logged as a nested run."""
    tried = {**section, **suggest(trial, SPACES[name])}
    with mlflow.start_run(run_name=f"trial {trial.number}", nested=True):
        score = score_section(section=tried)
        mlflow.log_params(tried)
        mlflow.log_metric(metric, score)
    print(f"tune@{name}: trial {trial.number}: {score:.5g} with {tried}", flush=True)
    return score


def name_study(name: str, section: dict[str, Any], fit: Fit, repeats: int) -> str:
    """The model, and a hash of all else that its scores depend on, so that none is taken for another table's."""
    fixed = {key: value for key, value in section.items() if key not in SPACES[name]}
    return f"{name}-{hash_content([hash_folder(PREPARED), fit.model_dump(), fixed, repeats])}"


def open_study(name: str, seed: int) -> optuna.Study:
    """The search of this name, where it stopped. Raises InputError if its file cannot be read."""
    try:
        study = optuna.create_study(study_name=name, storage=f"sqlite:///{STUDIES}", load_if_exists=True)
    except (SQLAlchemyError, RuntimeError) as error:
        raise InputError(f"{STUDIES}: {str(error).splitlines()[0][:200]}; move it away to begin again") from None
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))  # a search that goes on tries new points
    return study


def tune(name: str, trials: int, repeats: int) -> None:
    """Search, log each trial, and write the winner into params.yaml if it beats what stands there.

    Raises InputError for a model without hyperparameters, or for a number of trials or repeats below 1.
    """
    title = require_model(name).title
    if not SPACES.get(name):
        raise InputError(f"{title} has nothing to search")
    if min(trials, repeats) < 1:
        raise InputError(f"--trials {trials} --repeats {repeats}: each must be at least 1")
    fit, training, apart = read_fit(), read_training(), read_apart()
    section = resolve_section(name, read_mapping(name), Training(read_features("train"), training[2], apart), fit)
    fit = fit.model_copy(update={"cv_folds": max(fit.cv_folds, 2)})
    if apart is not None and apart.name == "time":
        repeats = 1  # spans of time are no matter of chance
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = open_study(name_study(name, section, fit, repeats), fit.seed)
    with threadpool_limits(fit.threads):
        score = partial(score_section, training, name, fit=fit, repeats=repeats)
        metric, present = name_metric(training[2]), score(section=section)
        print(
            f"tune@{name}: params.yaml stands at {metric} {present:.5g}, mean of {repeats} times {fit.cv_folds} folds",
            flush=True,
        )
        tuning = f"{read_section(Mlflow).experiment}-Tuning"  # the main one holds what DVC holds
        experiment_id = connect(tuning, "One run for each `python -m stages.tune`, and below it one for each trial.")
        objective = partial(try_section, name=name, section=section, metric=metric, score_section=score)
        with explain_store_errors():
            mlflow.set_experiment(experiment_id=experiment_id)
            with mlflow.start_run(run_name=f"Tune {title}"):
                study.optimize(objective, n_trials=trials)
                mlflow.log_metric(metric, study.best_value)
    best = suggest(optuna.trial.FixedTrial(study.best_params), SPACES[name])  # type: ignore[arg-type]
    if study.best_value < present:
        write_params({name: best})
        print(f"tune@{name}: {study.best_value:.5g} beats {present:.5g}; written into params.yaml: {best}")
    else:
        print(f"tune@{name}: {len(study.trials)} trials, none better than {present:.5g}; params.yaml stays")


def main() -> None:
    parser = make_parser("tune", __doc__, "xgboost --trials 50")
    parser.add_argument("model", help=f"one of {', '.join(MODELS)}")
    parser.add_argument("--trials", type=int, default=30, help="how many more to try (default 30)")
    parser.add_argument("--repeats", type=int, default=3, help="how often the folds are drawn again (default 3)")
    arguments = parser.parse_args()
    tune(arguments.model, arguments.trials, arguments.repeats)


if __name__ == "__main__":
    run_command(main)
