"""From the champion's run to the registry: a version that can be used, and Production if it may have it."""

import os
import zlib
from typing import NamedTuple
from zipfile import BadZipFile

import numpy as np
import pandas as pd
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from stages.model.metrics import METRICS, Scores, find_metric, score_predictions
from stages.registry import versions as registry
from stages.registry.card import summarize
from stages.shared.cli import InputError
from stages.shared.files import PREPARED
from stages.shared.params import Register
from stages.tracking.connection import first_line
from stages.tracking.models import fetch_model, find_model_uri, hash_model, load_pipeline
from stages.tracking.runs import rebuild_run

# What loading or running a damaged or outdated model was seen to raise.
UNUSABLE = (
    ArithmeticError,
    AttributeError,
    BadZipFile,
    EOFError,
    ImportError,
    InputError,
    LookupError,
    MlflowException,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zlib.error,
)


class Usable(NamedTuple):
    """What a logged model scores on the current test rows, and the md5 of its files."""

    score: float
    files_md5: str


def try_model(uri: str, metric: str, files_md5: str | None = None) -> Usable | str:
    """Load a logged model and score it, or say why that can't be done.

    files_md5: what its files were when it got its version; others are not what was judged.
    """
    rows = pd.read_parquet(PREPARED / "rows_test.parquet")
    target = pd.read_parquet(PREPARED / "y_test.parquet")["target"].to_numpy()
    try:
        folder = fetch_model(uri)
        found = hash_model(folder)
        if files_md5 not in (None, found):
            return "its files are not those that were registered"
        predicted = np.asarray(load_pipeline(folder).predict(rows))
        return Usable(score_predictions(target, predicted, "test")[f"test_{metric}"], found)
    except UNUSABLE as error:
        return first_line(error)


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
    metric = find_metric(settings.metric)
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


def register_champion(report: Scores, run: Run, settings: Register) -> list[str]:
    """Give the champion's run a version that can be used, and Production if it may have it; returns what was done.

    report: metrics/champion.json.
    """
    metric, versions = find_metric(settings.metric), registry.list_versions()
    production = registry.find_production(versions)
    candidate, done = find_candidate(report, run, registry.find_version(versions, run), metric)
    present: Usable | str | None = None
    if production and production.version != candidate.version:
        present = try_model(registry.address_version(production), metric, production.tags.get(registry.FILES))
    experiment = os.environ.get("DVC_EXP_NAME")
    if experiment:
        promoted, why = False, f"experiment {experiment} proposes version {candidate.version}"
    else:
        score = present.score if isinstance(present, Usable) else present
        promoted, why = decide(candidate, production, score, report, settings)
    if promoted:
        registry.promote(candidate, why)
        return [*done, f"version {candidate.version} → Production. {why}"]
    if production:
        registry.settle_alias(registry.CHAMPION_ALIAS, production)
    if not production or candidate.version != production.version:
        registry.settle_alias(registry.CHALLENGER_ALIAS, candidate)
    kept = f"Production stays version {production.version}" if production else "no version is in Production"
    return [*done, f"{kept}: {why}"]


def find_candidate(
    report: Scores, run: Run, version: ModelVersion | None, metric: str
) -> tuple[ModelVersion, list[str]]:
    """The version of the champion's run, which can be loaded and scores what it should; and what was done for it.

    What MLflow keeps is tried first: a damaged model is logged again from DVC's file, and gets a version of its own.
    """
    done, expected = [], report[f"test_{metric}"]
    uri = registry.address_version(version) if version else find_model_uri(run)
    tried = try_model(uri, metric, version.tags.get(registry.FILES) if version else None)
    if isinstance(tried, Usable) and tried.score != expected:
        tried = f"it scores test_{metric} {tried.score} in place of {expected}"
    if isinstance(tried, str):
        done.append(f"what MLflow keeps of {run.info.run_name} can't be used ({tried}); logged again from DVC's file")
        run, version = rebuild_run(report["name"], report["model"]), None
        tried = try_model(find_model_uri(run), metric)
        if isinstance(tried, str):
            raise InputError(f"{run.info.run_name} can't be used as MLflow stores it: {tried}")
    if version is None:
        version = registry.add_version(run, summarize(report), tried.files_md5)
        done.append(f"added version {version.version} ({run.info.run_name})")
    return version, done
