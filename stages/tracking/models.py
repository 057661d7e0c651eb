"""The models that MLflow keeps: logged in a form that runs no code when it is loaded, and loaded so."""

import shutil
import tempfile
import warnings
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from mlflow.entities import Run
from mlflow.exceptions import MlflowException

from stages.model.results import load_object, name_types, read_scores_file
from stages.shared.aside import submit, wait_for
from stages.shared.cli import InputError
from stages.shared.files import DAMAGED, PREPARED, hash_folder, model_file, read_yaml
from stages.table.columns import name_target
from stages.tracking.connection import first_line, is_store_error
from stages.tracking.store import show_uri

if TYPE_CHECKING:
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
    "stages.table.encoder.Encoder",
    "xgboost.core.Booster",
    "xgboost.sklearn.XGBRegressor",
]

NOTE = "registered_model_meta"  # which MLflow writes again whenever somebody loads a version

# What a logged model needs to be loaded and served; what is not installed here is not needed by it.
SERVED_WITH = ["mlflow", "numpy", "pandas", "scikit-learn", "skops"]
BOOSTERS = {"xgboost": ["xgboost-cpu", "xgboost"], "lightgbm": ["lightgbm"]}


def log_model(run: Run, name: str, title: str, aside: Executor) -> None:
    """Give a finished run its model, from DVC's file, and the picture of what it predicts, which is drawn aside; its
    end stays as it was.
    """
    with reopen(run), tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "plots.png")
        predictions, features = (read_scores_file(name, kind) for kind in ("predictions", "features"))
        pipeline = load_object(model_file(name))
        target = name_target(pipeline["encoder"].dictionary)
        drawn = submit(aside, "stages.model.picture.draw_model", title, target, predictions, features, picture)
        model_id = log_pipeline(pipeline, "model")
        wait_for(drawn)
        mlflow.log_artifact(str(picture))
        mlflow.set_tag("dvc.model_id", model_id)


def log_champion(run: Run) -> str:
    """Give a finished run what serves, from DVC's file, as its logged model `champion`; returns the model's id."""
    with reopen(run):
        return log_pipeline(load_object(model_file("champion")), "champion")


@contextmanager
def reopen(run: Run) -> Iterator[None]:
    """A finished run as MLflow's active one; afterwards it is finished, as of when it was."""
    with mlflow.start_run(run_id=run.info.run_id):
        yield
    mlflow.MlflowClient().set_terminated(run.info.run_id, "FINISHED", run.info.end_time)


def log_pipeline(pipeline: "Pipeline", name: str) -> str:
    """A pipeline as a model of the active run: skops format, with signature, example and the code that it needs.

    Returns the model's id.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="mlflow")
        return mlflow.sklearn.log_model(
            pipeline,
            name=name,
            serialization_format="skops",
            skops_trusted_types=TRUSTED_TYPES,
            signature=ModelSignature(make_schema(name_types(pipeline)), Schema([ColSpec("double")])),
            input_example=read_example()[list(pipeline["encoder"].columns_)],
            pip_requirements=pin_requirements([*SERVED_WITH, *find_boosters(pipeline["estimator"])]),
            code_paths=[str(copy_code(Path(folder)))],
        ).model_id


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
        (package / name).parent.joinpath("__init__.py").touch()
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


def has_model(run: Run) -> bool:
    """Whether the files of a run's model are still where it logged them."""
    try:
        return bool(mlflow.MlflowClient().list_logged_model_artifacts(run.data.tags["dvc.model_id"]))
    except (MlflowException, OSError, KeyError):
        return False


def find_local_folder(model_id: str) -> Path | None:
    """Where the files of a logged model are, if MLflow still has it and keeps them on this machine."""
    try:
        place = mlflow.get_logged_model(model_id).artifact_location
    except MlflowException:
        return None
    return Path(place.removeprefix("file://")) if place.startswith("file://") else None


def fetch_model(uri: str) -> Path:
    """The folder of a logged model, brought here if need be. Raises InputError if there is none."""
    try:
        return Path(mlflow.artifacts.download_artifacts(uri))
    except Exception as error:  # a wrong address ends in many ways
        if not (is_store_error(error) or isinstance(error, DAMAGED)):
            raise
        raise InputError(f"{uri}: no such model in {show_uri()}: {first_line(error)[:200]}") from None


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
