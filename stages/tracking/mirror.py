"""The mirror: each result that DVC holds has its run and its model in MLflow, written from DVC's files if need be."""

import tempfile
from concurrent.futures import Executor
from functools import partial
from pathlib import Path

import mlflow
from mlflow.entities import Run

from stages.tracking.connection import within_limit
from stages.tracking.models import begin_model, finish_model
from stages.tracking.runs import begin_run, find_runs, log_results

MANY = 20  # requests' time for a model that is logged, or loaded and scored


def mirror(experiment_id: str, titles: dict[str, str], aside: Executor) -> dict[str, Run]:
    """The finished run of each current result, with its model. titles: by name; aside: writes the models' files.

    Raises MlflowException if the store stops answering; the next call goes on from there.
    """
    found = within_limit(partial(find_runs, experiment_id, titles))
    runs, begun = {name: run for name, (run, whole) in found.items() if whole}, {}
    with tempfile.TemporaryDirectory() as folder:
        for name in [name for name in titles if name not in runs]:
            run, _ = found.get(name, (None, False))
            runs[name] = within_limit(partial(mirror_run, experiment_id, name, titles[name], run), MANY)
            begun[name] = within_limit(partial(begin_model, runs[name], name, Path(folder, name), aside))
        for name, model in begun.items():
            within_limit(partial(finish_model, runs[name], name, titles[name], Path(folder, name), model), MANY)
            runs[name] = mlflow.get_run(runs[name].info.run_id)
    return {name: runs[name] for name in titles}


def mirror_run(experiment_id: str, name: str, title: str, found: Run | None) -> Run:
    """A finished run of a current result, which has no model yet. found: the newest finished run of it."""
    if found and "dvc.model_id" not in found.data.tags:  # train's own, whose model waits for this moment
        return found
    run = log_results(begin_run(experiment_id, name, title, rebuilt=True), name, title)
    print(f"register: {title} was not in MLflow; logged from DVC's files")
    return run
