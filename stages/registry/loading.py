"""The model that a user names, as a pipeline from raw rows to the target; loading it runs no code from outside."""

import argparse
import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from stages.shared.cli import InputError
from stages.shared.files import hash_file

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline


def open_model(model: str, *, trust: bool = False) -> "Pipeline":
    """A stage, version or @alias of the registered model, an address of MLflow's, or else a file of DVC's.

    trust: whether to load what could run code of its own.
    Raises InputError if there is no such model, or if it could and is not trusted.
    """
    if "/" in model and ":/" not in model:
        return open_file(Path(model), trust=trust)
    from stages.registry.versions import address_model
    from stages.tracking.connection import connect
    from stages.tracking.models import fetch_model, load_pipeline

    connect()
    uri = address_model(model)
    return load_pipeline(fetch_model(uri), trust=trust)


def open_file(path: Path, *, trust: bool) -> "Pipeline":
    """A model file of DVC's: a pickle, so one whose bytes dvc.lock does not name could run anything."""
    import joblib

    from stages.tracking.models import require_pipeline

    if not path.is_file():
        raise InputError(f"{path}: no such model file")
    if not trust and hash_file(path) not in read_known_md5s():
        raise InputError(
            f"{path}: dvc.lock does not know these bytes, so opening them could run code; --trust allows that"
        )
    try:
        return require_pipeline(joblib.load(path), str(path))
    except (pickle.UnpicklingError, ValueError, LookupError, EOFError, AttributeError, ImportError, TypeError) as error:
        raise InputError(f"{path}: not a model file of this project: {str(error)[:200]}") from None


def read_known_md5s() -> set[str]:
    """The md5s of all files that dvc.lock names."""
    lock = Path("dvc.lock")
    stages = yaml.safe_load(lock.read_text())["stages"] if lock.exists() else {}
    return {out["md5"] for stage in stages.values() for out in stage.get("outs", [])}


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, and whether to trust it."""
    parser.add_argument(
        "--model",
        default="Production",
        help="stage or version (7) of the registered model, @alias, an address (models:/... or runs:/...), or a "
        "model file of DVC's (models/xgboost); default: Production",
    )
    parser.add_argument(
        "--trust", action="store_true", help="load a model that could run code of its own when it is opened"
    )
