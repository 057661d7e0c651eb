"""Where MLflow's store lives, and whether it is as register left it; known without importing MLflow."""

import json
import os
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

from stages.files import hash_file, read_json, write_json

ROOT = Path(os.environ.get("DVC_ROOT", Path(__file__).parent.parent)).resolve()


def find_uri() -> str:
    """MLFLOW_TRACKING_URI, or mlflow.db in the root of the repository, also from a temporary experiment."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{ROOT / 'mlflow.db'}"


def find_database() -> Path | None:
    """The store's SQLite file, or None if it is a server or another database."""
    scheme, _, path = find_uri().partition(":///")
    return Path(path.partition("?")[0]) if scheme == "sqlite" else None


def drop_unfinished(database: Path) -> None:
    """Remove a database whose first use was cut short, by a kill or a full disk: it could never be opened again.

    MLflow puts an experiment into it as its last step, so one without any never held a run. Only to be called by
    who holds the lock under which the database is made.
    """
    if not database.exists():
        return
    with closing(sqlite3.connect(database, timeout=60)) as connection:
        try:
            unfinished = connection.execute("SELECT count(*) FROM experiments").fetchone() == (0,)
        except sqlite3.OperationalError as error:
            unfinished = "no such table" in str(error)
    if unfinished:
        database.unlink()


def describe_state(inputs: Iterable[str | Path]) -> dict[str, Any] | None:
    """All that register depends on: the hash of each input, and when the database last changed.

    None if an input or the database is missing, or if a write to the database was cut short.
    """
    database = find_database()
    if database is None or Path(f"{database}-journal").exists():
        return None
    try:
        found = database.stat()
        hashes = {str(path): hash_file(path) for path in inputs}
    except OSError:
        return None
    experiment = os.environ.get("DVC_EXP_NAME", "")  # its register proposes, where another promotes
    return {"inputs": hashes, "experiment": experiment, "changed": found.st_mtime_ns, "size": found.st_size}


def is_settled(inputs: Iterable[str | Path]) -> bool:
    """Whether nothing has changed since `settle`, and every file it named still exists."""
    state = describe_state(inputs)
    try:
        kept = read_json(settled_file()) if state else None
    except (OSError, json.JSONDecodeError):
        return False
    return kept is not None and kept["state"] == state and all(Path(path).exists() for path in kept["files"])


def settle(inputs: Iterable[str | Path], files: Iterable[str]) -> None:
    """Remember that store and inputs are in line as they are now, as long as these files exist."""
    state = describe_state(inputs)
    if state:
        write_json(settled_file(), {"state": state, "files": list(files)})


def settled_file() -> Path:
    return Path(f"{find_database()}.settled")
