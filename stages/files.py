"""Files as the stages use them: whole or not at all, and known by the hash that DVC knows them by."""

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from stages.edge import InputError

PREPARED = Path("data/prepared")


def model_file(name: str) -> Path:
    return Path("models", name)


def metrics_file(name: str) -> Path:
    return Path("metrics", f"{name}.json")


def hash_file(path: str | Path) -> str:
    """md5 of a file's bytes: the name under which DVC stores it."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def plot_file(name: str, kind: str) -> Path:
    """The table behind one kind of plot of one model: predictions, features, rmse or learning."""
    return Path("plots", name, f"{kind}.csv")


@contextmanager
def write_whole(path: str | Path) -> Iterator[Path]:
    """A temporary path beside `path` that takes its name only when the block ends well.

    A reader, or a process killed half-way, never sees half a file.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_json(path: str | Path, content: dict[str, Any]) -> None:
    with write_whole(path) as part:
        part.write_text(json.dumps(content, indent=2) + "\n")


def read_json(path: str | Path) -> dict[str, Any]:
    return json.loads(Path(path).read_text())


def read_yaml(path: str | Path) -> dict[str, Any]:
    """A YAML file that holds a mapping. Raises InputError if there is none."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (yaml.YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise InputError(f"{path}: not a YAML file: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected `key: value` lines, found {type(content).__name__}")
    return content
