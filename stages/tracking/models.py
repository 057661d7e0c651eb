"""Logging models: in a form that runs no code when it is loaded, with all that they need to be served."""

import shutil
import tempfile
import warnings
from concurrent.futures import Executor, Future
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
import pandas as pd
from mlflow.entities import LoggedModelOutput, LoggedModelStatus, Metric, Run, RunTag

from stages.model.results import list_files, load_object, read_scores_file
from stages.shared.aside import submit, wait_for
from stages.shared.files import CHAMPION, model_file, read_json
from stages.tracking.stored import TRUSTED_TYPES

if TYPE_CHECKING:
    from mlflow.models import Model, ModelSignature
    from sklearn.pipeline import Pipeline

CODE = (
    "table/columns.py",
    "table/counts.py",
    "table/encoder.py",
    "table/learning.py",
    "table/values.py",
    "model/scaling.py",
    "model/blend.py",
)  # of this package, which a logged model carries along

LEARNING = "learning_"  # what the names of a learning curve's metrics begin with

# What a logged model needs to be loaded and served; what is not installed here is not needed by it.
SERVED_WITH = ["mlflow", "numpy", "pandas", "scikit-learn", "skops"]
BOOSTERS = {"xgboost": ["xgboost-cpu", "xgboost"], "lightgbm": ["lightgbm"]}


def begin_model(run: Run, name: str, folder: Path, aside: Executor) -> tuple[str, Future[None]]:
    """A model of a finished run, without files: its id, and the work aside that writes them as a new folder."""
    model_id = create_model(run, "model")
    return model_id, submit(aside, f"{__name__}.write_model", name, folder, run.info.run_id, model_id)


def finish_model(run: Run, name: str, title: str, folder: Path, begun: tuple[str, Future[None]]) -> None:
    """Give a run what `begin_model` has begun, and the picture of what its model predicts."""
    from stages.tracking.picture import draw_model

    model_id, written = begun
    predictions, features = (read_scores_file(name, kind) for kind in ("predictions", "features"))
    target = read_json(CHAMPION)["target"]
    with tempfile.TemporaryDirectory() as drawn:
        draw_model(title, target, predictions, features, Path(drawn, "plots.png"))
        mlflow.MlflowClient().log_artifact(run.info.run_id, str(Path(drawn, "plots.png")))
    wait_for(written)
    keep_model(run, model_id, folder)
    log_figures(run, model_id, {"dvc.model_id": model_id})  # once all is there


def log_champion(run: Run, aside: Executor) -> str:
    """Give a finished run what serves, from DVC's file, as its logged model `champion`; returns the model's id."""
    model_id = create_model(run, "champion")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "model")
        wait_for(submit(aside, f"{__name__}.write_model", "champion", folder, run.info.run_id, model_id))
        keep_model(run, model_id, folder)
    log_figures(run, model_id, {})
    return model_id


def create_model(run: Run, name: str) -> str:
    """A model of a run, with its parameters and without files; returns its id.

    With `keep_model` and `log_figures`, what `mlflow.sklearn.log_model` does with a request for each metric.
    """
    client = mlflow.MlflowClient()
    return client.create_logged_model(run.info.experiment_id, name, run.info.run_id, params=run.data.params).model_id


def write_model(name: str, folder: Path, run_id: str, model_id: str) -> None:
    """The files of a logged model, from DVC's file, as a new folder."""
    from mlflow.models import Model

    save_pipeline(load_object(model_file(name)), folder, Model(run_id=run_id, model_id=model_id))


def keep_model(run: Run, model_id: str, folder: Path) -> None:
    """Hand the files of a model over to MLflow."""
    client = mlflow.MlflowClient()
    client.log_model_artifacts(model_id, str(folder))
    client.finalize_logged_model(model_id, LoggedModelStatus.READY)
    client.log_outputs(run.info.run_id, [LoggedModelOutput(model_id, 0)])


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
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="mlflow")
        mlflow.sklearn.save_model(
            pipeline,
            str(target),
            mlflow_model=model,
            serialization_format="skops",
            skops_trusted_types=TRUSTED_TYPES,
            signature=make_signature(list(pipeline["encoder"].columns_)),
            input_example=read_example()[list(pipeline["encoder"].columns_)],
            pip_requirements=pin_requirements([*SERVED_WITH, *find_boosters(pipeline["estimator"])]),
            code_paths=[str(copy_code(Path(folder)))],
        )


def find_boosters(estimator: Any) -> list[str]:
    """The packages beside scikit-learn that a fitted estimator, or a member of a blend, comes from."""
    from stages.model.estimators import list_regressors

    modules = {type(regressor).__module__.partition(".")[0] for regressor in list_regressors(estimator)}
    return [package for module in sorted(modules) for package in BOOSTERS.get(module, [])]


def copy_code(folder: Path) -> Path:
    """The files of this package that a logged model needs, as a package of their own."""
    package, source = folder / "stages", Path(__file__).parents[1]
    for name in CODE:
        (package / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / name, package / name)
    (package / "__init__.py").touch()
    return package


def make_signature(names: list[str]) -> "ModelSignature":
    """The raw columns of a model, of any type: MLflow refuses whole numbers, flags and dates as pandas reads them."""
    from mlflow.models import ModelSignature
    from mlflow.types.schema import AnyType, ColSpec, Schema

    return ModelSignature(Schema([ColSpec(AnyType(), name) for name in names]), Schema([ColSpec("double")]))


def read_example() -> pd.DataFrame:
    """A few raw training rows, without reading them all."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetFile

    first = next(ParquetFile(list_files("rows_train")[0]).iter_batches(batch_size=3))
    return pa.Table.from_batches([first]).to_pandas()


def pin_requirements(packages: list[str]) -> list[str]:
    """`name==version` of those packages that are installed."""
    pinned = []
    for package in packages:
        with suppress(PackageNotFoundError):
            pinned.append(f"{package}=={version(package)}")
    return pinned
