"""The models that MLflow keeps: logged in a form that runs no code when it is loaded, and loaded so."""

import shutil
import tempfile
import warnings
from concurrent.futures import Executor
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import mlflow
import pandas as pd
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Run, RunTag
from mlflow.exceptions import MlflowException

from stages.model.results import load_object, name_types, read_scores_file
from stages.shared.aside import submit, wait_for
from stages.shared.cli import InputError
from stages.shared.files import DAMAGED, PREPARED, hash_folder, model_file, read_yaml
from stages.table.columns import name_target
from stages.tracking.connection import first_line, handle_store_errors
from stages.tracking.store import find_database, show_uri

if TYPE_CHECKING:
    from mlflow.models import Model
    from mlflow.types import Schema
    from sklearn.pipeline import Pipeline

CODE = (
    "table/columns.py",
    "table/counts.py",
    "table/encoder.py",
    "table/learning.py",
    "model/scaling.py",
    "model/blend.py",
)  # of this package, which a logged model carries along

# Classes that a logged model may contain beside those of scikit-learn and numpy that skops vouches for. Reviewed:
# each holds data and fitted numbers, and none runs code from the file. The OrderedDict holds LightGBM's parameters.
TRUSTED_TYPES = [
    "collections.OrderedDict",
    "lightgbm.basic.Booster",
    "lightgbm.sklearn.LGBMRegressor",
    "sklearn.tree._tree.Tree",
    "stages.model.blend.Blend",
    "stages.model.scaling.Independent",
    "stages.model.scaling.LogSkewed",
    "stages.model.scaling.Standardized",
    "stages.model.scaling.take_log",
    "stages.model.scaling.undo_log",
    "stages.table.columns.Category",
    "stages.table.columns.Date",
    "stages.table.columns.Flag",
    "stages.table.columns.GroupMean",
    "stages.table.columns.Nominal",
    "stages.table.columns.Number",
    "stages.table.columns.Ordinal",
    "stages.table.columns.Rated",
    "stages.table.encoder.Encoder",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBRegressor",
]

LEARNING = "learning_"  # what the names of a learning curve's metrics begin with
NOTE = "registered_model_meta"  # which MLflow writes again whenever somebody loads a version

# What a logged model needs to be loaded and served; what is not installed here is not needed by it.
SERVED_WITH = ["mlflow", "numpy", "pandas", "scikit-learn", "skops"]
BOOSTERS = {"xgboost": ["xgboost-cpu", "xgboost"], "lightgbm": ["lightgbm"]}


def log_model(run: Run, name: str, title: str, aside: Executor) -> None:
    """Give a finished run its model, from DVC's file, and the picture of what it predicts, which is drawn aside."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "plots.png")
        predictions, features = (read_scores_file(name, kind) for kind in ("predictions", "features"))
        pipeline = load_object(model_file(name))
        target = name_target(pipeline["encoder"].dictionary)
        drawn = submit(aside, "stages.model.picture.draw_model", title, target, predictions, features, picture)
        model_id = log_pipeline(run, pipeline, "model")
        wait_for(drawn)
        mlflow.MlflowClient().log_artifact(run.info.run_id, str(picture))
    log_figures(run, model_id, {"dvc.model_id": model_id})  # once all is there


def log_champion(run: Run) -> str:
    """Give a finished run what serves, from DVC's file, as its logged model `champion`; returns the model's id."""
    model_id = log_pipeline(run, load_object(model_file("champion")), "champion")
    log_figures(run, model_id, {})
    return model_id


def log_pipeline(run: Run, pipeline: "Pipeline", name: str) -> str:
    """A pipeline as a model of a run, with its parameters; returns the model's id.

    With `log_figures`, what `mlflow.sklearn.log_model` does with a request for each metric.
    """
    from mlflow.models import Model

    client = mlflow.MlflowClient()
    model = client.create_logged_model(run.info.experiment_id, name, run.info.run_id, params=run.data.params)
    with tempfile.TemporaryDirectory() as folder:
        save_pipeline(pipeline, Path(folder, "model"), Model(run_id=run.info.run_id, model_id=model.model_id))
        client.log_model_artifacts(model.model_id, str(Path(folder, "model")))
    client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model.model_id, 0)])
    return model.model_id


def log_figures(run: Run, model_id: str, tags: dict[str, str]) -> None:
    """A run's metrics as those of its model too, and tags of the run."""
    metrics = [
        Metric(key, value, run.info.start_time, 0, model_id=model_id)
        for key, value in run.data.metrics.items()
        if not key.startswith(LEARNING)
    ]
    mlflow.MlflowClient().log_batch(run.info.run_id, metrics, tags=[RunTag(key, value) for key, value in tags.items()])


def save_pipeline(pipeline: "Pipeline", target: Path, model: "Model") -> None:
    """A pipeline as a folder of MLflow's: skops format, with signature, example and the code that it needs."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="mlflow")
        mlflow.sklearn.save_model(
            pipeline,
            str(target),
            mlflow_model=model,
            serialization_format="skops",
            skops_trusted_types=TRUSTED_TYPES,
            signature=ModelSignature(make_schema(name_types(pipeline)), Schema([ColSpec("double")])),
            input_example=read_example()[list(pipeline["encoder"].columns_)],
            pip_requirements=pin_requirements([*SERVED_WITH, *find_boosters(pipeline["estimator"])]),
            code_paths=[str(copy_code(Path(folder)))],
        )


def find_boosters(estimator: Any) -> list[str]:
    """The packages beside scikit-learn that a fitted estimator, or a member of a blend, comes from."""
    from stages.model.estimators import find_regressor

    members = getattr(estimator, "fitted_", [estimator])
    modules = {type(find_regressor(member)).__module__.partition(".")[0] for member in members}
    return [package for module in sorted(modules) for package in BOOSTERS.get(module, [])]


def copy_code(folder: Path) -> Path:
    """The files of this package that a logged model needs, as a package of their own."""
    package, source = folder / "stages", Path(__file__).parents[1]
    for name in CODE:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, package / name)
    (package / "__init__.py").touch()
    return package


def make_schema(columns: dict[str, str]) -> "Schema":
    """The raw columns that a model takes and their types, as MLflow describes them."""
    from mlflow.types import ColSpec, Schema

    return Schema([ColSpec(kind, name) for name, kind in columns.items()])


def read_example() -> pd.DataFrame:
    """A few raw training rows, without reading them all."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    first = next(ParquetFile(PREPARED / "rows_train.parquet").iter_batches(batch_size=3))
    return pa.Table.from_batches([first]).to_pandas()


def pin_requirements(packages: list[str]) -> list[str]:
    """`name==version` of those packages that are installed."""
    pinned = []
    for package in packages:
        with suppress(PackageNotFoundError):
            pinned.append(f"{package}=={version(package)}")
    return pinned


def find_stored(runs: list[Run]) -> set[str]:
    """The runs, by their ids, whose models' files are still where they were logged."""
    named = {run.data.tags["dvc.model_id"]: run for run in runs if "dvc.model_id" in run.data.tags}
    seen = set() if find_database() or not named else list_models(next(iter(named.values())))
    return {run.info.run_id for model_id, run in named.items() if model_id in seen or has_files(model_id)}


def list_models(run: Run) -> set[str]:
    """What a server keeps in the folder of its experiment's models, in one request; ids, if it is where it was seen."""
    try:
        folder = f"{run.info.artifact_uri.removesuffix(f'/{run.info.run_id}/artifacts')}/models"
        return {Path(info.path).name for info in mlflow.artifacts.list_artifacts(artifact_uri=folder)}
    except (MlflowException, OSError):
        return set()


def has_files(model_id: str) -> bool:
    try:
        return bool(mlflow.MlflowClient().list_logged_model_artifacts(model_id))
    except (MlflowException, OSError):
        return False


def find_local_folder(model_id: str) -> Path | None:
    """Where the files of a logged model are, if MLflow still has it and keeps them on this machine."""
    try:
        place = mlflow.get_logged_model(model_id).artifact_location
    except MlflowException:
        return None
    return Path(place.removeprefix("file://")) if place.startswith("file://") else None


def fetch_model(uri: str, target: Path | None = None) -> Path:
    """The folder of a logged model, or a file of it, brought here if need be, or into a target.

    Raises InputError if there is none.
    """

    def refuse(error: Exception) -> NoReturn:
        raise InputError(f"{uri}: no such model in {show_uri()}: {first_line(error)[:200]}") from None

    with handle_store_errors(refuse, *DAMAGED):  # a wrong address ends in many ways
        return Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(target) if target else None))


def fetch_pipeline(model_id: str, target: Path) -> None:
    """The files of a logged model that `load_pipeline` reads. Raises InputError if they are not there."""
    place = mlflow.get_logged_model(model_id).artifact_location
    for name in ("MLmodel", "model.skops"):
        fetch_model(f"{place}/{name}", target)


def hash_model(folder: Path) -> str:
    """One md5 of all files of a logged model, but for the note that MLflow adds on the way."""
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(folder, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns(NOTE))
        return hash_folder(copy).removesuffix(".dir")


def load_pipeline(folder: Path, *, trust: bool = False) -> "Pipeline":
    """The pipeline from raw rows to the target that a logged model holds, by this project's code and no other.

    Raises InputError for any model that could run code of its own when it is loaded, unless it is trusted, and
    for one that is no pipeline with an encoder.
    """
    from skops.io import load
    from skops.io.exceptions import UntrustedTypesFoundException

    try:
        flavor = read_yaml(folder / "MLmodel")["flavors"].get("sklearn") or {}
        if trust:
            pipeline = mlflow.sklearn.load_model(str(folder))
        elif flavor.get("serialization_format") != "skops":
            raise InputError(f"{folder}: not in skops format, so loading it could run code; --trust allows that")
        else:
            pipeline = load(folder / flavor["pickled_model"], trusted=TRUSTED_TYPES)
    except UntrustedTypesFoundException as error:
        raise InputError(f"{folder}: {first_line(error)}; --trust allows that") from None
    except (MlflowException, *DAMAGED) as error:
        raise InputError(f"{folder}: not a model that can be loaded: {first_line(error)}") from None
    return require_pipeline(pipeline, str(folder))


def require_pipeline(model: Any, where: str) -> "Pipeline":
    """Raises InputError unless a model is a pipeline that begins with this project's encoder."""
    steps = getattr(model, "named_steps", {})
    if not hasattr(steps.get("encoder"), "columns_"):
        raise InputError(f"{where}: not a model of this project: no pipeline that begins with its encoder")
    return model
