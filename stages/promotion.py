"""From current results to the registry: every run in MLflow, the best model a version, and Production if it may."""

import os
import zlib
from typing import Any
from zipfile import BadZipFile

import mlflow
import numpy as np
import pandas as pd
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from stages import registry, tracking
from stages.files import PREPARED
from stages.params import Register
from stages.scoring import METRICS, score_predictions

Scores = dict[str, Any]

# What loading or running a damaged or outdated model was seen to raise.
UNUSABLE = (
    ArithmeticError,
    AttributeError,
    BadZipFile,
    EOFError,
    ImportError,
    LookupError,
    MlflowException,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zlib.error,
)


def mirror_runs(scores: dict[str, Scores]) -> dict[str, Run]:
    """The finished MLflow run of every current result; one that MLflow lacks is logged from DVC's files."""
    runs = {}
    for name in scores:
        run = tracking.find_run(name)
        if run is None:
            run = tracking.rebuild_run(name, scores[name]["model"])
            print(f"register: {scores[name]['model']} was not in MLflow; logged from DVC's files")
        runs[name] = run
    return runs


def score_model(uri: str, metric: str) -> float | str:
    """The metric of a logged or registered model on the current test rows, or why it can't be had."""
    rows = pd.read_parquet(PREPARED / "rows_test.parquet")
    target = pd.read_parquet(PREPARED / "y_test.parquet")["target"].to_numpy()
    try:
        return score_predictions(target, np.asarray(mlflow.pyfunc.load_model(uri).predict(rows)), "test")[
            f"test_{metric}"
        ]
    except UNUSABLE as error:
        return tracking.first_line(error)


def decide(
    candidate: ModelVersion,
    production: ModelVersion | None,
    present: float | str | None,
    scores: Scores,
    settings: Register,
) -> tuple[bool, str]:
    """Whether the candidate becomes Production, and why or why not, with the figures.

    present: what the version in Production scores on the current test rows, or why it can't be scored.
    """
    metric = settings.metric.rpartition("_")[2]
    name = f"version {candidate.version}"
    if production and candidate.version == production.version:
        return False, f"{name} is Production already"
    if settings.promote == "never":
        return False, f"register.promote = never, so {name} waits"
    if registry.ROLLED_BACK in candidate.tags:
        return False, f"{name} was rolled back by hand: {candidate.tags[registry.ROLLED_BACK]}"
    if scores["test_r2"] < settings.min_test_r2:
        return False, f"{name} has test_r2 {scores['test_r2']}, below register.min_test_r2 = {settings.min_test_r2}"
    own = f"test_{metric} {scores[f'test_{metric}']}"
    if production is None or present is None:
        return True, f"First version in Production: {own}."
    if isinstance(present, str):
        return True, f"{own}; version {production.version}, Production until now, can't be scored: {present}."
    if settings.promote == "always":
        return True, f"register.promote = always: {own}."
    sign = 1 if METRICS[metric].greater_is_better else -1
    gain = sign * (scores[f"test_{metric}"] - present)
    against = f"{own} against {present} of version {production.version} on the same test rows"
    if gain <= 0 or gain < settings.min_gain:
        return False, f"{name} has {against}; a gain of at least {settings.min_gain} is asked"
    return True, f"{against}."


def register_champion(name: str, run: Run, scores: Scores, settings: Register, summary: str) -> list[str]:
    """Give the champion's run a version that can be used, and Production if it may have it; says what was done.

    summary: what the version's description says of the model.
    """
    metric, done = settings.metric.rpartition("_")[2], []
    versions = registry.list_versions()
    candidate, production = registry.find_version(versions, run), registry.find_production(versions)
    scored = score_model(registry.find_uri(candidate) if candidate else tracking.find_model_uri(run), metric)
    present = scored if candidate and production and candidate.version == production.version else None
    if isinstance(scored, str):
        done.append(f"what MLflow keeps of {run.info.run_name} can't be used ({scored}); logged anew from DVC's file")
        run, candidate = tracking.rebuild_run(name, scores["model"]), None
    if candidate is None:
        candidate = registry.add_version(run, summary)
        done.append(f"added version {candidate.version} ({run.info.run_name})")
    if production and present is None:
        present = score_model(registry.find_uri(production), metric)
    experiment = os.environ.get("DVC_EXP_NAME")
    if experiment:
        promoted, why = False, f"experiment {experiment} proposes version {candidate.version}"
    else:
        promoted, why = decide(candidate, production, present, scores, settings)
    if promoted:
        registry.promote(candidate, why)
        return [*done, f"version {candidate.version} → Production. {why}"]
    if production:
        registry.settle_alias(registry.CHAMPION, production)
    if not production or candidate.version != production.version:
        registry.settle_alias(registry.CHALLENGER, candidate)
    kept = f"Production stays version {production.version}" if production else "no version is in Production"
    return [*done, f"{kept}: {why}"]
