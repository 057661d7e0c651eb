"""MLflow's runs: one for each result that DVC has, found by the md5s of its files.

A run is written from the files that DVC owns, so it can be written again at any time without training.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import mlflow
from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunData, RunTag
from mlflow.exceptions import MlflowException

from stages.model.catalogue import BLEND_COLOUR, MODELS
from stages.model.results import read_description, read_fit, read_scores_file
from stages.shared.cli import InputError
from stages.shared.files import hash_content, hash_file, metrics_file, read_json, stage_of
from stages.shared.params import Data, read_section
from stages.shared.processes import has_ended
from stages.tracking.connection import (
    connect,
    explain_store_errors,
    list_store_errors,
    warn_of_lost_store,
    within_limit,
)
from stages.tracking.models import LEARNING
from stages.tracking.provenance import describe_origin, describe_provenance, describe_result, hash_outputs
from stages.tracking.store import show_uri
from stages.tracking.stored import find_stored

CARD_MD5 = "dvc.card_md5"  # of the model card that a run keeps
DATA_MD5 = "dvc.data_md5"  # of all that a result was made from
PROVENANCE = "provenance.json"  # the same md5 by md5, and more
FIRST = ("test_r2", "test_rmse", "test_mae", "cv_rmsle")  # of the metrics, as MLflow lists them
RECENT = 100  # finished runs that one request brings; what is not among them is asked for by name


@contextmanager
def open_run(name: str, title: str) -> Iterator[Callable[[dict[str, float]], None]]:
    """A run around a fit, so that its duration is true and a failing fit shows as FAILED.

    Yields what logs the stage's files, once they are written, with timings in seconds. If the store has stopped
    answering by then, it warns: register logs the run later. Raises InputError if it does not answer at the start.
    """
    with explain_store_errors():
        run = within_limit(lambda: begin_run(connect(), name, title))

    def log(timings: dict[str, float]) -> None:
        with warn_of_lost_store(stage_of(name)):
            within_limit(lambda: log_results(run, name, title, timings))

    try:
        yield log
    except BaseException:
        with suppress(*list_store_errors()):
            within_limit(lambda: mlflow.MlflowClient().set_terminated(run.info.run_id, "FAILED"))
        raise


def begin_run(experiment_id: str, name: str, title: str, rebuilt: bool = False) -> Run:
    colour = MODELS[name].colour if name in MODELS else BLEND_COLOUR
    tags = describe_origin(name) | {"mlflow.runColor": colour} | ({"dvc.rebuilt": "true"} if rebuilt else {})
    run = mlflow.MlflowClient().create_run(experiment_id, run_name=title, tags=tags)
    if not run.info.run_id:
        raise InputError(f"MLflow at {show_uri()} does not answer as it should: a run without an id")
    return run


def log_results(run: Run, name: str, title: str, timings: dict[str, float] | None = None) -> Run:
    """Fill a run from the files of its DVC stage, all but its model, and end it as FINISHED.

    Returns it with its metrics and parameters. timings: seconds, which belong to one execution and are in no file.
    Raises MlflowException if the store stops answering; the run is then not FINISHED, and `find_runs` passes it over.
    """
    client, run_id, start = mlflow.MlflowClient(), run.info.run_id, run.info.start_time
    about = read_description(name)
    scores, provenance = read_json(metrics_file(name)), describe_provenance(name)
    numbers = {k: v for k, v in scores.items() if isinstance(v, int | float)} | (timings or {})
    first = {key: numbers.pop(key) for key in FIRST if key in numbers}
    curve = read_scores_file(name, "learning").itertuples()
    tags = {**hash_outputs(name), DATA_MD5: hash_content(provenance["inputs"])}
    note = describe_result(name, scores)
    metrics = [
        *(Metric(key, value, start, 0) for key, value in (first | numbers).items()),
        *(Metric(f"{LEARNING}{point.rows}_rmse", point.rmse, start, point.iteration) for point in curve),
    ]
    params = [Param(key, str(value)) for key, value in describe_params(title, about["params"]).items()]
    client.log_batch(
        run_id, metrics, params, [RunTag(key, value) for key, value in (tags | {"mlflow.note.content": note}).items()]
    )
    client.log_dict(run_id, provenance, PROVENANCE)
    client.log_inputs(run_id, [describe_dataset(about["columns"], provenance["inputs"])])
    client.set_terminated(run_id, "FINISHED")
    return Run(run.info, RunData(metrics, params))


def describe_params(title: str, settings: dict[str, str]) -> dict[str, Any]:
    """What the run shows as parameters: the model's name, all that its regressor has set, and what the fits share."""
    shared = read_fit().model_dump()
    return {"model_name": title, **settings, **{f"fit.{key}": value for key, value in shared.items()}}


def describe_dataset(columns: dict[str, str], md5s: dict[str, str]) -> DatasetInput:
    """The raw table by its md5, as what the run was trained on."""
    from mlflow.types import ColSpec, Schema

    raw = read_section(Data).path
    schema = json.dumps({"mlflow_colspec": Schema([ColSpec(kind, name) for name, kind in columns.items()]).to_dict()})
    dataset = Dataset(Path(raw).name, md5s[raw], "local", json.dumps({"uri": raw}), schema=schema)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def find_runs(experiment_id: str, names: Iterable[str]) -> dict[str, tuple[Run, bool]]:
    """The newest finished run of exactly the model and metrics that DVC has of each name, and whether it has its model.

    A run that has its model comes before a newer one that has none; a name without a run is left out.
    """
    recent = search_finished(experiment_id, RECENT)
    found = {}
    for name in names:
        tags = {"dvc.stage": stage_of(name), **hash_outputs(name)}
        found[name] = [run for run in recent if tags.items() <= run.data.tags.items()]
        if not found[name] and len(recent) == RECENT:
            found[name] = search_finished(experiment_id, 20, tags)
    stored = find_stored([run for runs in found.values() for run in runs])
    return {
        name: next(((run, True) for run in runs if run.info.run_id in stored), (runs[0], False))
        for name, runs in found.items()
        if runs
    }


def search_finished(experiment_id: str, most: int, tags: dict[str, str] | None = None) -> list[Run]:
    """Finished runs, newest first."""
    clauses = [f"tags.`{key}` = '{value}'" for key, value in (tags or {}).items()]
    return mlflow.MlflowClient().search_runs(
        [experiment_id],
        " and ".join(["attributes.status = 'FINISHED'", *clauses]),
        max_results=most,
        order_by=["attributes.start_time DESC"],
    )


def read_provenance(run: Run) -> dict[str, Any]:
    """What a run was made from; nothing if its file is lost, or if it was logged before there was one."""
    try:
        return mlflow.artifacts.load_dict(f"runs:/{run.info.run_id}/{PROVENANCE}")
    except (MlflowException, OSError):
        return {}


def has_run(run_id: str) -> bool:
    try:
        mlflow.get_run(run_id)
    except MlflowException:
        return False
    return True


def close_abandoned_runs(experiment_id: str) -> list[str]:
    """End as KILLED the runs whose process on this machine was killed; their names."""
    abandoned = []
    for run in mlflow.search_runs([experiment_id], "attributes.status = 'RUNNING'", output_format="list"):
        if has_ended(run.data.tags.get("dvc.process", "")):
            mlflow.MlflowClient().set_terminated(run.info.run_id, "KILLED")
            abandoned.append(run.info.run_name)
    return abandoned


def log_card(run: Run, path: Path) -> None:
    """Keep the model card with the run that it describes, if it is not there yet."""
    md5, client = hash_file(path), mlflow.MlflowClient()
    if run.data.tags.get(CARD_MD5) != md5:
        client.log_artifact(run.info.run_id, str(path))
        client.set_tag(run.info.run_id, CARD_MD5, md5)
