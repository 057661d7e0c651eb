"""From the champion's run to the registry: a version that can be used, and Production if it may have it."""

import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from stages.model.metrics import METRICS, Scores, find_metric, is_weak, score_predictions
from stages.model.results import read_targets
from stages.registry import versions as registry
from stages.registry.card import summarize
from stages.shared.aside import submit, wait_for
from stages.shared.cli import InputError
from stages.shared.files import hash_file, model_file
from stages.shared.params import Register, read_section, runs_in_ci
from stages.tracking.connection import first_line
from stages.tracking.models import log_champion
from stages.tracking.provenance import describe_table, describe_way_back
from stages.tracking.store import find_database
from stages.tracking.stored import LostModelError, fetch_model, fetch_pipeline, hash_model


def fetch_logged(uri: str, files_md5: str | None = None) -> Path | str:
    """The folder of a logged model, or why it can't be used: it is gone, or not what was registered.

    files_md5: what its files were when it got its version; others are not what was judged.
    Raises InputError if the store fails: that says nothing of the model.
    """
    try:
        folder = fetch_model(uri)
    except LostModelError as error:
        return first_line(error)
    if files_md5 not in (None, hash_model(folder)):
        return "its files are not those that were registered"
    return folder


def fetch_version(version: ModelVersion) -> Path | str:
    """The folder of what a version serves, or why it can't be used; raises as `fetch_logged`."""
    return fetch_logged(registry.address_version(version), version.tags.get(registry.FILES))


@contextmanager
def fetch_served(version: ModelVersion) -> Iterator[Path | str]:
    """The same of the version in Production.

    On a server only the files that loading takes are asked for, so that a look every day costs little.
    """
    if find_database():
        yield fetch_version(version)
        return
    problem = ""
    with tempfile.TemporaryDirectory() as folder:
        try:
            fetch_pipeline(version.tags["dvc.model_id"], Path(folder))
        except LostModelError as error:
            problem = first_line(error)
        yield problem or Path(folder)


def predict_test(folder: Path | str, aside: Executor) -> np.ndarray | str:
    """What a logged model predicts for the current test rows, (n_rows,), or why that can't be had."""
    if isinstance(folder, str):
        return folder
    return wait_for(submit(aside, "stages.registry.judging.predict_logged", folder))


def find_difference(folder: Path | str, aside: Executor) -> str:
    """Why a logged model can't serve what DVC has as the champion; nothing if it predicts the same."""
    if isinstance(folder, str):
        return folder
    return wait_for(submit(aside, "stages.registry.judging.compare", folder, model_file("champion")))


def score_version(version: ModelVersion, aside: Executor) -> Scores | str:
    """Metrics of a version on the current test rows, by the model that was judged for it; or why they can't be had.

    If only that one is lost, by what serves, which may have seen these rows: a lost file gives no place away.
    """
    served = predict_test(fetch_version(version), aside)
    if isinstance(served, str):
        return served
    judged = predict_test(fetch_logged(registry.address_judged(version)), aside)
    return score_predictions(read_targets()["test"], served if isinstance(judged, str) else judged, "test")


def decide(
    candidate: ModelVersion,
    production: ModelVersion | None,
    present: float | str | None,
    scores: Scores,
    settings: Register,
) -> tuple[bool, str]:
    """Whether the candidate passes the gate to Production, and why or why not, with the figures.

    present: what the version in Production scores on the current test rows, or why it can't be scored.
    """
    metric = find_metric(settings.metric)
    name = f"version {candidate.version}"
    if production and candidate.version == production.version:
        return False, f"{name} is Production already"
    if registry.ROLLED_BACK in candidate.tags:
        return False, f"{name} was rolled back by hand: {candidate.tags[registry.ROLLED_BACK]}"
    if settings.min_test_r2 is not None and scores["test_r2"] < settings.min_test_r2:
        return False, f"{name} has test_r2 {scores['test_r2']}, below register.min_test_r2 = {settings.min_test_r2}"
    own = f"test_{metric} {scores[f'test_{metric}']}"
    if production is None or present is None:
        return True, f"First version in Production: {own}."
    if isinstance(present, str):
        return True, f"{own}; version {production.version}, Production until now, can't be scored: {present}."
    if settings.promote == "always":
        return True, f"register.promote = always: {own}."
    gain = find_gain(metric, scores[f"test_{metric}"], present)
    against = f"{own} against {present} of version {production.version} on the same test rows"
    if gain <= 0 or gain < settings.min_gain:
        return False, f"{name} has {against}; a gain of at least {settings.min_gain} is asked"
    return True, f"{against}."


def find_gain(metric: str, score: float, other: float) -> float:
    """How much better one score is than another, in units of the metric."""
    return score - other if METRICS[metric].greater_is_better else other - score


def find_veto(settings: Register) -> str:
    """Why nothing is promoted here, whatever passes the gate; nothing if it may be."""
    if experiment := os.environ.get("DVC_EXP_NAME"):
        return f"experiment {experiment}"
    if settings.promote == "never" or (settings.promote == "ci" and not runs_in_ci()):
        return f"register.promote = {settings.promote}"
    return ""


def find_in_place(report: Scores, aside: Executor) -> list[str]:
    """What there is to say if the champion's bytes serve already, and all is well; nothing if there is more to do.

    Changes nothing, so the registry need not be held.
    """
    versions = registry.list_versions()
    production = registry.find_production(versions)
    if production is None or production.tags.get(registry.SERVED) != hash_file(model_file("champion")):
        return []
    if find_obstacle(report, versions) or registry.find_repair(versions, registry.read_aliases()):
        return []
    with fetch_served(production) as folder:
        if find_difference(folder, aside):
            return []
    return [f"Production stays version {production.version}: version {production.version} is Production already"]


def register_champion(
    report: Scores, run: Run, settings: Register, aside: Executor, require_turn: Callable[[], None]
) -> list[str]:
    """Give the champion's run a version that can be used, and Production if it may have it; returns what was done.

    report: metrics/champion.json. require_turn: of who holds the registry; nobody else may call this.
    """
    versions = registry.list_versions()
    if reason := find_obstacle(report, versions):
        return [f"nothing is registered: {reason}"]
    key = f"test_{find_metric(settings.metric)}"
    production, versions = registry.settle_production(versions)
    candidate, done = find_candidate(report, run, versions, aside)
    other = production if production and production.version != candidate.version else None
    present = score_version(other, aside) if other else None
    bar = present[key] if isinstance(present, dict) else present
    passes, why = decide(candidate, production, bar, report, settings)
    veto = find_veto(settings)
    if passes and not veto:
        require_turn()
        registry.promote(candidate, why)
        production, _ = registry.settle_production(registry.list_versions())
        settle_challenger(None, production, report[key], report, aside)
        return [*done, f"version {candidate.version} → Production. {why}"]
    if passes:
        settle_challenger(candidate, production, bar, report, aside)
    if veto and not (production and production.version == candidate.version):
        why = f"{veto} proposes version {candidate.version}, which {'would pass' if passes else 'waits'}: {why}"
    kept = f"Production stays version {production.version}" if production else "no version is in Production"
    return [*done, f"{kept}: {why}"]


def settle_challenger(
    proposed: ModelVersion | None,
    production: ModelVersion | None,
    bar: float | str | None,
    scores: Scores,
    aside: Executor,
) -> None:
    """Point the alias at the best version that waits and would pass the gate, or at none.

    proposed: a version that waits and would pass, with its scores; it stands back behind a challenger that is as good.
    bar: what the version in Production scores.
    """
    settings, number = read_section(Register), registry.read_aliases().get(registry.CHALLENGER_ALIAS)
    metric = find_metric(settings.metric)
    holder = next((version for version in registry.list_versions() if str(version.version) == number), None)
    if holder and proposed and holder.version == proposed.version:
        return
    held, stays = score_version(holder, aside) if holder else None, False
    if holder and isinstance(held, dict):
        stays, _ = decide(holder, production, bar, held, settings)
        if proposed and find_gain(metric, scores[f"test_{metric}"], held[f"test_{metric}"]) > 0:
            stays = False
    if not stays and proposed:
        registry.point_alias(registry.CHALLENGER_ALIAS, proposed)
    elif not stays and number:
        registry.drop_alias(registry.CHALLENGER_ALIAS)


def find_obstacle(report: Scores, versions: list[ModelVersion]) -> str:
    """Why the champion can be no version of the registered model; nothing if it can."""
    if is_weak(report):
        return "no model is better than the median of the training rows"
    held, own = registry.find_table(versions), describe_table()
    if held in (None, own):
        return ""
    return f"{registry.name_model()} holds models of {held}; {own} needs names of its own under `mlflow` in params.yaml"


def find_candidate(
    report: Scores, run: Run, versions: list[ModelVersion], aside: Executor
) -> tuple[ModelVersion, list[str]]:
    """The version that serves the champion's bytes, and what was done for it.

    What MLflow keeps must load, and predict as DVC's file does; else it is logged again, and gets a version of its own,
    which stays out of Production if the other was rolled back.
    """
    path, done = model_file("champion"), []
    found = registry.find_versions(versions, hash_file(path))
    for version in found:
        problem = find_difference(fetch_version(version), aside)
        if not problem:
            return version, []
        done.append(
            f"what MLflow keeps of version {version.version} can't be used ({problem}); logged again from DVC's file"
        )
    model_id = log_champion(run, aside)
    folder = fetch_model(f"models:/{model_id}")
    problem = find_difference(folder, aside)
    if problem:
        raise InputError(f"{path} can't be used as MLflow stores it: {problem}")
    tags = {key: value for key, value in found[0].tags.items() if key == registry.ROLLED_BACK} if found else {}
    tags |= {registry.SERVED: hash_file(path), registry.FILES: hash_model(folder)}
    version = registry.add_version(run, model_id, f"{summarize(report)}\n\n{describe_way_back('champion')}", tags)
    return version, [*done, f"added version {version.version} ({run.info.run_name})"]
