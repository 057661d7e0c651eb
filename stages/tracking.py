"""MLflow's side of the mirror: the store, the runs, and what each run says of its DVC stage.

A run is written from the files that DVC owns, so it can be written again at any time without training.
The link between the two is the md5 under which DVC stores a stage's files.
"""

import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "ERROR")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

import mlflow
from filelock import FileLock
from mlflow.entities import Metric, Run
from mlflow.exceptions import MlflowException

from stages.edge import InputError
from stages.files import PREPARED, hash_file, metrics_file, model_file, plot_file, read_json
from stages.params import Data, Fit, read_section
from stages.store import ROOT, drop_unfinished, find_database, find_uri

if TYPE_CHECKING:  # register only needs these when MLflow lacks a run
    import pandas as pd
    from mlflow.models.model import ModelInfo
    from sklearn.pipeline import Pipeline

Logging = tuple[Callable[["Pipeline"], None], Callable[[dict[str, float]], None]]

EXPERIMENT = "House-Prices-Regression"

# Classes that a logged model may contain beside those of scikit-learn and numpy that skops vouches for. Reviewed:
# each holds data and fitted numbers, and none runs code from the file. The OrderedDict holds LightGBM's parameters.
TRUSTED_TYPES = [
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMRegressor",
    "sklearn.tree._tree.Tree",
    "stages.features.Encoder",
    "stages.features.LogSkewed",
    "stages.features.Standardized",
    "stages.features.take_log",
    "stages.features.undo_log",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBRegressor",
]

# What a logged model needs to be loaded and served; what is not installed here is not needed by it.
SERVED_WITH = ["mlflow", "numpy", "pandas", "scikit-learn", "skops"]
BOOSTERS = {"xgboost": ["xgboost-cpu", "xgboost"], "lightgbm": ["lightgbm"]}


def connect(experiment: str = EXPERIMENT) -> str:
    """Point MLflow at the project's store, with an experiment in it, and give the experiment's id.

    The store is MLFLOW_TRACKING_URI, or mlflow.db and mlruns/ in the root of the repository, also from
    within the temporary folder of a DVC experiment. Raises InputError if it cannot be reached.
    """
    uri, database = find_uri(), find_database()
    check_reachable(uri)
    mlflow.set_tracking_uri(f"{uri}?timeout=60" if database and "?" not in uri else uri)
    with explain_store_errors(), lock_store():  # several processes must not create the tables at once
        if database:
            drop_unfinished(database)
        found = mlflow.get_experiment_by_name(experiment)
        return found.experiment_id if found else create_experiment(experiment, local=database is not None)


def lock_store() -> FileLock:
    """One process at a time creates tables, or changes the registry; within a process it can be held twice."""
    return FileLock(ROOT / "mlflow.db.lock", is_singleton=True)


@contextmanager
def explain_store_errors() -> Iterator[None]:
    """What the store cannot do, as an InputError that names the store."""
    try:
        yield
    except Exception as error:
        if not is_store_error(error):
            raise
        raise InputError(f"MLflow at {find_uri()} does not answer as it should: {first_line(error)}") from None


def is_store_error(error: Exception) -> bool:
    """Whether the store failed: its database (whose library is not imported for a server), its server, its disk."""
    return isinstance(error, MlflowException | OSError) or type(error).__module__.startswith("sqlalchemy.")


def create_experiment(name: str, local: bool) -> str:
    """An experiment, marked so that MLflow's page opens on model training, not on language models."""
    return mlflow.create_experiment(
        name,
        artifact_location=(ROOT / "mlruns").as_uri() if local else None,
        tags={"mlflow.experimentKind": "custom_model_development"},
    )


def check_reachable(uri: str) -> None:
    """Raises InputError within seconds if no server listens at an http address, or a database has no folder."""
    parts = urlsplit(uri)
    if parts.scheme in ("http", "https"):
        port = parts.port or (443 if parts.scheme == "https" else 80)
        try:
            socket.create_connection((parts.hostname or "", port), timeout=3).close()
        except OSError as error:
            raise InputError(f"MLFLOW_TRACKING_URI = {uri}: no server answers there ({error})") from None
    elif parts.scheme == "sqlite":
        folder = Path(parts.path[1:]).parent
        if not os.access(folder, os.W_OK):
            raise InputError(f"MLFLOW_TRACKING_URI = {uri}: {folder} is not a folder that can be written to")
    else:
        allowed = "http://, https:// or sqlite:///"
        raise InputError(f"MLFLOW_TRACKING_URI = {uri}: allowed are addresses that start with {allowed}")


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@contextmanager
def open_run(name: str, title: str) -> Iterator[Logging]:
    """A run around a fit, so that its duration is true and a failing fit shows as FAILED.

    Gives two functions: one logs the fitted model, the other, once the stage's files are written, the rest. If the
    store stops answering during the block, they warn, and the stage goes on: register logs the run later.
    Raises InputError if it does not answer at the start.
    """
    run_id = begin_run(name, title)
    logged: list[ModelInfo] = []

    def log_model(pipeline: "Pipeline") -> None:
        with warn_of_lost_store(name):
            logged.append(log_pipeline(run_id, pipeline, name))

    def log_outcome(timings: dict[str, float]) -> None:
        if logged:
            with warn_of_lost_store(name):
                finish_run(run_id, name, title, logged[0], timings)

    try:
        yield log_model, log_outcome
    except BaseException:
        with suppress(MlflowException, OSError):
            mlflow.MlflowClient().set_terminated(run_id, "FAILED")
        raise


@contextmanager
def warn_of_lost_store(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        if not is_store_error(error):
            raise
        print(
            f"warning: MLflow at {find_uri()} stopped answering ({first_line(error)}); "
            f"train@{name} is safe in DVC, and register will log its run",
            file=sys.stderr,
        )


def begin_run(name: str, title: str, rebuilt: bool = False) -> str:
    """Start the run of a model and give its id. It stays RUNNING until `finish_run`."""
    tags = describe_origin(name) | ({"dvc.rebuilt": "true"} if rebuilt else {})
    experiment_id = connect()  # before the client, which keeps the store that it finds
    run = mlflow.MlflowClient().create_run(experiment_id, run_name=title, tags=tags)
    return run.info.run_id


def rebuild_run(name: str, title: str) -> Run:
    """A run written from the files in the workspace alone, for a result that MLflow does not have."""
    import joblib

    run_id = begin_run(name, title, rebuilt=True)
    finish_run(run_id, name, title, log_pipeline(run_id, joblib.load(model_file(name)), name))
    return mlflow.get_run(run_id)


def finish_run(
    run_id: str, name: str, title: str, logged: "ModelInfo", timings: dict[str, float] | None = None
) -> None:
    """Fill a run whose model is logged from the files of its DVC stage, and end it as FINISHED.

    Raises MlflowException if the store stops answering; the run is then not FINISHED, and `find_run` passes it over.
    """
    import joblib
    from mlflow.data.dataset_source_registry import resolve_dataset_source
    from mlflow.data.meta_dataset import MetaDataset

    raw, metrics = read_section(Data).path, read_json(metrics_file(name))
    mlflow.log_params(describe_params(title, joblib.load(model_file(name))))
    numbers = {key: value for key, value in metrics.items() if isinstance(value, int | float)}
    mlflow.log_metrics(numbers | (timings or {}), model_id=logged.model_id)
    with warnings.catch_warnings(action="ignore"):  # it finds two kinds of local file, which are one
        source = resolve_dataset_source(raw)
    schema = logged.signature.inputs
    dataset = MetaDataset(source, Path(raw).name, hash_file(raw), schema)  # type: ignore[abstract]
    mlflow.log_input(dataset, context="training")
    log_plots(run_id, name, title)
    mlflow.set_tags({**hash_outputs(name), "dvc.model_id": logged.model_id})
    mlflow.end_run()


def read_example() -> "pd.DataFrame":
    """A few raw training rows, without reading them all."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    first = next(ParquetFile(PREPARED / "rows_train.parquet").iter_batches(batch_size=3))
    return pa.Table.from_batches([first]).to_pandas()


def log_pipeline(run_id: str, pipeline: "Pipeline", name: str) -> "ModelInfo":
    """The pipeline as the run's `model`: skops format, with signature, example and the encoder's source.

    The run stays MLflow's active one until `finish_run`.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema
    from pandas.api.types import is_numeric_dtype

    columns, example = pipeline["encoder"].columns_, read_example()
    mlflow.start_run(run_id=run_id)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="mlflow")
        source = Path(folder, "stages")
        source.mkdir()
        (source / "__init__.py").touch()
        shutil.copy(Path(__file__).with_name("features.py"), source)
        return mlflow.sklearn.log_model(
            pipeline,
            name="model",
            serialization_format="skops",
            skops_trusted_types=TRUSTED_TYPES,
            signature=ModelSignature(
                Schema([ColSpec("double" if is_numeric_dtype(example[c]) else "string", c) for c in columns]),
                Schema([ColSpec("double")]),
            ),
            input_example=example[list(columns)],
            pip_requirements=pin_requirements([*SERVED_WITH, *BOOSTERS.get(name, [])]),
            code_paths=[str(source)],
        )


def log_plots(run_id: str, name: str, title: str) -> None:
    """The tables behind `dvc plots` as one picture, and the learning curve as metrics with steps."""
    import pandas as pd

    from stages.plots import draw_model

    client, now = mlflow.MlflowClient(), int(time.time() * 1000)
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "plots.png")
        predictions, features = (pd.read_csv(plot_file(name, kind)) for kind in ("predictions", "features"))
        draw_model(title, predictions, features, picture)
        client.log_artifact(run_id, str(picture))
    curve = pd.read_csv(plot_file(name, "learning")).itertuples()
    steps = [Metric(f"learning_{point.rows}_rmse", point.rmse, now, point.iteration) for point in curve]
    client.log_batch(run_id, metrics=steps)


def pin_requirements(packages: list[str]) -> list[str]:
    """`name==version` of those packages that are installed."""
    pinned = []
    for package in packages:
        with suppress(PackageNotFoundError):
            pinned.append(f"{package}=={version(package)}")
    return pinned


def describe_params(title: str, pipeline: "Pipeline") -> dict[str, Any]:
    """What the run shows as parameters: the model's name, all that its regressor resolved, and what the fits share."""
    from stages.models import find_regressor

    regressor = find_regressor(pipeline["estimator"])
    shared = read_section(Fit).model_dump()
    return {"model_name": title, **regressor.get_params(), **{f"fit.{k}": v for k, v in shared.items()}}


def describe_origin(name: str) -> dict[str, str]:
    """Where a run comes from, as tags: DVC stage, experiment, revision, and the md5 of all data it reads."""
    inputs = [Path(read_section(Data).path), *sorted(PREPARED.glob("*.*"))]
    commit = os.environ.get("DVC_EXP_BASELINE_REV") or ask_git("rev-parse", "HEAD")
    outputs = [":!metrics", ":!dvc.lock"]  # DVC removes and rewrites these while a stage runs
    return {
        "dvc.stage": f"train@{name}",
        "dvc.exp_name": os.environ.get("DVC_EXP_NAME", ""),
        "dvc.baseline_rev": commit,
        "dvc.dirty": str(bool(ask_git("status", "--porcelain", "--untracked-files=no", "--", ".", *outputs))).lower(),
        "dvc.process": f"{platform.node()}:{os.getpid()}",
        "mlflow.source.name": f"python -m stages.train {name}",
        "mlflow.source.type": "LOCAL",
        "mlflow.source.git.commit": commit,
        **{f"dvc.md5.{path.as_posix()}": hash_file(path) for path in inputs},
    }


def ask_git(*args: str) -> str:
    """What git prints, or nothing where there is no git or no repository."""
    try:
        return subprocess.run(["git", *args], capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        return ""


def hash_outputs(name: str) -> dict[str, str]:
    """The two md5s that name a result of train@name in both worlds, as tags."""
    return {"dvc.model_md5": hash_file(model_file(name)), "dvc.metrics_md5": hash_file(metrics_file(name))}


def has_run(run_id: str) -> bool:
    try:
        mlflow.get_run(run_id)
    except MlflowException:
        return False
    return True


def close_abandoned_runs() -> list[str]:
    """End as KILLED the runs whose process on this machine was killed; their names."""
    abandoned = []
    for run in mlflow.search_runs(
        experiment_names=[EXPERIMENT], filter_string="attributes.status = 'RUNNING'", output_format="list"
    ):
        node, _, process = run.data.tags.get("dvc.process", "").rpartition(":")
        if node == platform.node() and not is_alive(int(process)):
            mlflow.MlflowClient().set_terminated(run.info.run_id, "KILLED")
            abandoned.append(run.info.run_name)
    return abandoned


def is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def find_run(name: str) -> Run | None:
    """The newest finished run of exactly the model and metrics that DVC has in the workspace, its model included."""
    clauses = [f"tags.`{key}` = '{value}'" for key, value in hash_outputs(name).items()]
    found = mlflow.search_runs(
        experiment_names=[EXPERIMENT],
        filter_string=" and ".join(["attributes.status = 'FINISHED'", f"tags.`dvc.stage` = 'train@{name}'", *clauses]),
        order_by=["attributes.start_time DESC"],
        output_format="list",
    )
    return next((run for run in found if has_model(run)), None)


def find_model_uri(run: Run) -> str:
    return f"models:/{run.data.tags['dvc.model_id']}"


def has_model(run: Run) -> bool:
    """Whether the files of a run's model are still where it logged them."""
    try:
        return bool(mlflow.MlflowClient().list_logged_model_artifacts(run.data.tags["dvc.model_id"]))
    except (MlflowException, OSError):
        return False


def find_local_files(runs: Iterable[Run]) -> list[str]:
    """The MLmodel files of these runs' models, if MLflow keeps them on this machine."""
    places = [mlflow.get_logged_model(run.data.tags["dvc.model_id"]).artifact_location for run in runs]
    return [f"{place.removeprefix('file://')}/MLmodel" for place in places if place.startswith("file://")]


def log_card(run: Run, path: Path) -> None:
    """Keep the model card with the run that it describes."""
    mlflow.MlflowClient().log_artifact(run.info.run_id, str(path))
