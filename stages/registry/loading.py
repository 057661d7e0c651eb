"""The model that a user names, as a pipeline from raw rows to the target; loading it runs no code from outside."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from stages.shared.cli import InputError
from stages.shared.files import hash_file, read_yaml, require_file

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
    from stages.tracking.stored import fetch_model, load_pipeline

    connect()
    uri = address_model(model)
    return load_pipeline(fetch_model(uri), trust=trust)


def open_file(path: Path, *, trust: bool) -> "Pipeline":
    """A model file of DVC's: a pickle, so one whose bytes dvc.lock does not name could run anything."""
    from stages.model.results import load_object
    from stages.tracking.stored import require_pipeline

    require_file(path)
    if not trust and hash_file(path) not in read_known_md5s():
        raise InputError(
            f"{path}: dvc.lock does not know these bytes, so opening them could run code; --trust allows that"
        )
    return require_pipeline(load_object(path), str(path))


def read_known_md5s() -> set[str]:
    """The md5s of all outputs that dvc.lock names."""
    lock = Path("dvc.lock")
    stages = read_yaml(lock).get("stages") or {} if lock.exists() else {}
    return {out.get("md5", "") for stage in stages.values() for out in stage.get("outs", [])}


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
