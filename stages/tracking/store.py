"""Where MLflow's store lives, and whether it is as register left it; known without importing MLflow."""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from filelock import FileLock

from stages.shared.cli import InputError
from stages.shared.files import hash_file, read_json, require_file, write_json

ROOT = Path(os.environ.get("DVC_ROOT", Path(__file__).parents[2])).resolve()
OWN_DATABASE = ROOT / "mlflow.db"


def find_uri() -> str:
    """MLFLOW_TRACKING_URI, or mlflow.db in the root of the repository, also from a temporary experiment."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{OWN_DATABASE}"


def show_uri() -> str:
    """The same for people to read, without a name and a password."""
    return re.sub(r"(?<=://)[^/]+@", "…@", find_uri())


def find_database() -> Path | None:
    """The store's SQLite file, or None if it is a server or another database."""
    scheme, _, path = find_uri().partition(":///")
    return Path(path.partition("?")[0]) if scheme == "sqlite" else None


def lock_store() -> FileLock:
    """One process at a time creates tables, or changes the registry; within a process it can be held twice.

    It lies beside a database, so that clones which share one wait for each other.
    """
    return FileLock(f"{find_database() or OWN_DATABASE}.lock", is_singleton=True, thread_local=False)


def hash_files(files: Iterable[str | Path]) -> dict[str, str]:
    """The md5 of each file. Raises InputError if one is missing."""
    return {str(file): hash_file(str(require_file(file))) for file in files}


def describe_state(inputs: Iterable[str | Path], files: Iterable[str | Path]) -> dict[str, Any] | None:
    """All that register depends on: the hash of each input and of each of MLflow's files, and the database's time.

    None if one of them is missing, if a write to the database was cut short, or if there is none, but a server.
    """
    database = find_database()
    if database is None or Path(f"{database}-journal").exists():
        return None
    try:
        found = database.stat()
        hashes = hash_files([*inputs, *files])
    except (OSError, InputError):
        return None
    place = {name: os.environ.get(name, "") for name in ("DVC_EXP_NAME", "CI")}  # one proposes where another promotes
    return {"hashes": hashes, "place": place, "changed": found.st_mtime_ns, "size": found.st_size}


def is_in_line(inputs: Iterable[Path]) -> bool:
    """Whether nothing has changed since `remember_state`, in the inputs, the database and the files of its models."""
    try:
        kept = read_json(state_file())
        return kept["state"] == describe_state(inputs, kept["files"])
    except (InputError, OSError, KeyError, TypeError):
        return False


def remember_state(inputs: dict[str, str], files: list[str]) -> None:
    """Remember that the store is in line with inputs, by their hashes, unless one of them has changed since; with the
    files that MLflow keeps of its models.
    """
    state = describe_state(inputs, files)
    if state and inputs.items() <= state["hashes"].items():
        write_json(state_file(), {"state": state, "files": files})


def state_file() -> Path:
    return Path(f"{find_database()}.settled")
