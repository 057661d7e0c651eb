"""The models that MLflow keeps: whether their files are there, brought here, and loaded without running their code."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import mlflow
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from stages.shared.cli import InputError
from stages.shared.files import DAMAGED, hash_folder, read_yaml
from stages.tracking.connection import first_line, list_store_errors
from stages.tracking.store import find_database, show_uri

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

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

# What loading a version leaves beside its files: a note of MLflow's, and the bytecode of its code.
TRACES = ("registered_model_meta", "__pycache__")


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
    """Whether a model's files are there. Raises InputError if the store fails, which says nothing of them."""
    try:
        with explain_fetching(f"models:/{model_id}"):
            return bool(mlflow.MlflowClient().list_logged_model_artifacts(model_id))
    except LostModelError:
        return False


def find_local_folder(model_id: str) -> Path | None:
    """Where the files of a logged model are, if MLflow still has it and keeps them on this machine."""
    try:
        place = mlflow.get_logged_model(model_id).artifact_location
    except MlflowException:
        return None
    return Path(url2pathname(urlsplit(place).path)) if place.startswith("file://") else None


class LostModelError(InputError):
    """The store answers, and does not have the model, or its files."""


@contextmanager
def explain_fetching(uri: str) -> Iterator[None]:
    """What keeps a model from being brought here, as a LostModelError, or an InputError if the store fails."""
    try:
        yield
    except list_store_errors(*DAMAGED) as error:  # a wrong address ends in many ways
        lost = getattr(error, "error_code", "") == "RESOURCE_DOES_NOT_EXIST" or isinstance(error, FileNotFoundError)
        kind, said = (LostModelError, "no such model in") if lost else (InputError, "not to be had from")
        raise kind(f"{uri}: {said} {show_uri()}: {first_line(error)[:200]}") from None


def fetch_model(uri: str, target: Path | None = None) -> Path:
    """The folder of a logged model, or a file of it, brought here if need be, or into a target.

    Raises LostModelError if there is none, InputError if the store fails.
    """
    with explain_fetching(uri):
        path = Path(mlflow.artifacts.download_artifacts(uri, dst_path=str(target) if target else None))
    if path.is_dir() and not any(path.iterdir()):  # as a server hands over what is not there
        raise LostModelError(f"{uri}: its files are gone from {show_uri()}")
    return path


def fetch_pipeline(model_id: str, target: Path) -> None:
    """The files of a logged model that `load_pipeline` reads. Raises as `fetch_model`."""
    uri, names = f"models:/{model_id}", {"MLmodel", "model.skops"}
    with explain_fetching(uri):
        place = mlflow.get_logged_model(model_id).artifact_location
        if not names <= {file.path for file in mlflow.MlflowClient().list_logged_model_artifacts(model_id)}:
            raise LostModelError(f"{uri}: its files are gone from {show_uri()}")
    for name in names:
        fetch_model(f"{place}/{name}", target)


def hash_model(folder: Path) -> str:
    """One md5 of all files of a logged model, but for the traces of its being loaded."""
    return hash_folder(folder, but=TRACES).removesuffix(".dir")


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
