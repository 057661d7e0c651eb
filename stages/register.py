"""register: bring MLflow in line with what DVC holds, and the best model into Production.

Reads   params.yaml (register), dvc.yaml (the models' names), metrics/, models/, data/prepared/
Writes  metrics/champion.json, the runs that MLflow lacks, and the versions of the registered model
"""

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
from stages.edge import InputError, run_stage
from stages.files import PREPARED, metrics_file, model_file, predictions_file, read_json, write_json
from stages.leaderboard import format_leaderboard, score_baseline
from stages.params import Fit, Register, read_section, read_yaml
from stages.scoring import METRICS, score_predictions, share_won

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


def read_metrics() -> dict[str, Scores]:
    """The current metrics of every model that dvc.yaml names; a file left over from another is not looked at."""
    names = read_yaml("dvc.yaml")["stages"]["train"]["foreach"]
    missing = [str(p) for name in names for p in (metrics_file(name), model_file(name)) if not p.exists()]
    if missing:
        raise InputError(f"{', '.join(missing)}: no such file; run `dvc repro` or `dvc pull` first")
    return {name: read_json(metrics_file(name)) for name in names}


def check_metric(metric: str, scores: dict[str, Scores]) -> bool:
    """Whether a larger value of the metric is better. Raises InputError if no model has such a metric."""
    known = [key for key in next(iter(scores.values())) if key.rpartition("_")[2] in METRICS]
    if metric not in known:
        raise InputError(f"params.yaml: register.metric = {metric!r}: no such metric; known: {', '.join(known)}")
    return METRICS[metric.rpartition("_")[2]].greater_is_better


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


def find_lead(champion: str, runner_up: str, metric: str, seed: int) -> float:
    """In which share of paired resamples of the test rows the champion beats the runner-up."""
    first, second = (pd.read_csv(predictions_file(name)) for name in (champion, runner_up))
    return share_won(
        first["actual"].to_numpy(), first["predicted"].to_numpy(), second["predicted"].to_numpy(), metric, seed
    )


def score_production(version: ModelVersion, metric: str) -> float | str:
    """The metric of the Production model on the current test rows, or why it can't be had."""
    rows = pd.read_parquet(PREPARED / "rows_test.parquet")
    target = pd.read_parquet(PREPARED / "y_test.parquet")["target"].to_numpy()
    try:
        model = mlflow.pyfunc.load_model(f"models:/{registry.REGISTERED_MODEL}/{version.version}")
        return score_predictions(target, np.asarray(model.predict(rows)), "test")[f"test_{metric}"]
    except UNUSABLE as error:
        return tracking.first_line(error)


def decide(
    candidate: ModelVersion, production: ModelVersion | None, scores: Scores, settings: Register
) -> tuple[bool, str]:
    """Whether the candidate becomes Production, and why or why not, with the figures."""
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
    if production is None:
        return True, f"First version in Production: {own}."
    if settings.promote == "always":
        return True, f"register.promote = always: {own}."
    present = score_production(production, metric)
    if isinstance(present, str):
        return True, f"{own}; version {production.version}, Production until now, can't be scored: {present}."
    sign = 1 if METRICS[metric].greater_is_better else -1
    gain = sign * (scores[f"test_{metric}"] - present)
    against = f"{own} against {present} of version {production.version} on the same test rows"
    if gain <= 0 or gain < settings.min_gain:
        return False, f"{name} has {against}; a gain of at least {settings.min_gain} is asked"
    return True, f"{against}."


def register_champion(run: Run, scores: Scores, settings: Register) -> list[str]:
    """Give the champion's run a version, and Production if it may have it; says what was done."""
    versions = registry.list_versions()
    candidate, production = registry.find_version(versions, run), registry.find_production(versions)
    done = []
    if candidate is None:
        candidate = registry.add_version(run)
        done.append(f"added version {candidate.version} ({run.info.run_name})")
    experiment = os.environ.get("DVC_EXP_NAME")
    if experiment:
        promoted, why = False, f"experiment {experiment} proposes version {candidate.version}"
    else:
        promoted, why = decide(candidate, production, scores, settings)
    if promoted:
        registry.promote(candidate, why)
        return [*done, f"version {candidate.version} → Production. {why}"]
    if production:
        registry.settle_alias(registry.CHAMPION, production)
    if not production or candidate.version != production.version:
        registry.settle_alias(registry.CHALLENGER, candidate)
    kept = f"Production stays version {production.version}" if production else "no version is in Production"
    return [*done, f"{kept}: {why}"]


def main() -> None:
    settings, fit = read_section(Register), read_section(Fit)
    scores = read_metrics()
    greater_is_better = check_metric(settings.metric, scores)
    ranked = sorted(scores, key=lambda name: scores[name][settings.metric], reverse=greater_is_better)
    champion, runner_up = ranked[0], ranked[1] if len(ranked) > 1 else ranked[0]
    tracking.connect()
    with tracking.explain_store_errors(), tracking.lock_store():
        for title in tracking.close_abandoned_runs():
            print(f"register: a run of {title} was killed before its end; marked so in MLflow")
        runs = mirror_runs(scores)
        done = register_champion(runs[champion], scores[champion], settings)
    lead = find_lead(champion, runner_up, settings.metric.rpartition("_")[2], fit.seed)
    report = {"name": champion, **scores[champion], "chosen_by": settings.metric}
    write_json("metrics/champion.json", report | {"runner_up": runner_up, "better_in_share_of_resamples": lead})
    seconds = {name: run.data.metrics.get("fit_seconds") for name, run in runs.items()}
    print(format_leaderboard(ranked, scores, seconds, score_baseline()))
    print(
        f"{scores[champion]['model']} beats {scores[runner_up]['model']} in {lead:.0%} of resamples of the test rows."
    )
    for line in done:
        print(f"{registry.REGISTERED_MODEL}: {line}")


if __name__ == "__main__":
    run_stage(main)
