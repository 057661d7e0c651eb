"""Reaching MLflow's store, and saying in one line why it cannot be reached."""

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, nullcontext, suppress
from json import JSONDecodeError
from pathlib import Path
from tempfile import TemporaryFile
from typing import TypeVar
from urllib.parse import urlsplit

import mlflow
from mlflow.exceptions import MlflowException

from stages.shared.cli import InputError
from stages.shared.files import require_file
from stages.shared.params import Mlflow, read_section
from stages.tracking.store import OWN_DATABASE, find_database, find_uri, lock_store, show_uri

TABLES = {"alembic_version", "experiments", "runs", "tags", "metrics", "params", "model_versions"}  # some of MLflow's
PATIENCE = 10  # seconds that a server has to say that it is there
REFUSED = {
    "UNAUTHENTICATED": "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "PERMISSION_DENIED": "this user may not do that; EDIT on the experiment and the registered model is needed",
}
RESULTS = (
    "One run for each result of `dvc repro` and `dvc exp run`, found by the md5s of DVC's files, and written again "
    "from them if it is lost. `python -m stages.leaderboard --all` prints them all, the best first."
)
USER = "MLFLOW_TRACKING_USERNAME"
Result = TypeVar("Result")
LIBRARIES = {  # what each raises; a store imports those that it needs
    "alembic.util.exc": ["CommandError"],
    "botocore.exceptions": ["BotoCoreError", "ClientError"],
    "google.protobuf.json_format": ["Error"],
    "google.protobuf.message": ["Error"],
    "sqlalchemy.exc": ["SQLAlchemyError"],
}


def connect(experiment: str | None = None, about: str = RESULTS) -> str:
    """Point MLflow at the project's store, with an experiment in it, the table's own if none is named; returns its id.

    The store is MLFLOW_TRACKING_URI, or mlflow.db and mlruns/ in the root of the repository, also from
    within the temporary folder of a DVC experiment. Raises InputError if it cannot be reached.
    """
    experiment = experiment or read_section(Mlflow).experiment
    check_uri()
    uri, database = find_uri(), find_database()
    mlflow.set_tracking_uri(f"{uri}?timeout=60" if database and "?" not in uri else uri)
    with explain_store_errors(), lock_store() if database else nullcontext():  # one process makes the tables
        if database:
            check_database(database)
        return within_limit(lambda: find_experiment(experiment, about))


def find_experiment(name: str, about: str) -> str:
    """The id of an experiment, which is made if there is none, or by another clone a moment before.

    about: what its page then says.
    """
    for _ in range(3):
        found = mlflow.get_experiment_by_name(name)
        if found and not found.experiment_id:
            raise InputError(f"MLflow at {show_uri()} does not answer as it should: an experiment without an id")
        if found and found.lifecycle_stage == "active":
            return found.experiment_id
        try:
            return create_experiment(name, about)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS" and not found:
                raise
    raise InputError(f"MLflow at {show_uri()}: experiment {name} was deleted there; restore it, or delete it for good")


def create_experiment(name: str, about: str) -> str:
    """An experiment, marked so that MLflow's page opens on model training, not on language models."""
    database = find_database()
    return mlflow.create_experiment(
        name,
        artifact_location=(database.resolve().parent / "mlruns").as_uri() if database else None,
        tags={"mlflow.experimentKind": "custom_model_development", "mlflow.note.content": about},
    )


def check_uri() -> None:
    """Raises InputError within seconds for an address that is none, or where nothing of use is."""
    where = f"MLFLOW_TRACKING_URI = {show_uri()}"
    database = find_database()
    try:
        parts = urlsplit(find_uri())
        port = parts.port
    except ValueError as error:
        raise InputError(f"{where}: {error}") from None
    if parts.username is not None:
        raise InputError(
            f"{where}: no place for a password; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD instead"
        )
    if parts.scheme in ("http", "https") and parts.hostname and port != 0:
        ask_server(where)
    elif database is None or database == Path() or database.name == ":memory:":
        raise InputError(f"{where}: allowed are addresses that start with http://, https:// or sqlite:///<file>")
    elif os.path.lexists(database):
        if not os.access(require_file(database), os.R_OK | os.W_OK):
            raise InputError(f"{where}: must be open to this user, and is not")
    else:
        check_folder(database, where)


def check_folder(database: Path, where: str) -> None:
    """Raises InputError unless a database can be made there."""
    try:
        with suppress(FileNotFoundError):
            database.lstat()  # the name may be none, or too long
        TemporaryFile(dir=database.parent).close()
    except (OSError, ValueError) as error:
        raise InputError(f"{where}: {getattr(error, 'strerror', None) or error}") from None


def ask_server(where: str) -> None:
    """Raises InputError unless something answers in HTTP, and whole, within PATIENCE."""
    import requests

    try:
        status = await_server(lambda: requests.get(f"{find_uri()}/health", timeout=5).status_code, PATIENCE)
    except (requests.RequestException, ValueError, TimeoutError) as error:
        raise InputError(f"{where}: no server answers there ({type(error).__name__})") from None
    if status >= 500:
        raise InputError(f"{where}: the server answers {status}")


def await_server(ask: Callable[[], Result], seconds: float) -> Result:
    """What a server answers. Raises TimeoutError if it takes too long, also if it says something all the time."""
    answer = ThreadPoolExecutor(1).submit(ask)
    if not wait([answer], seconds).done:
        raise TimeoutError(f"no whole answer within {seconds:g} s")
    return answer.result()


def within_limit(ask: Callable[[], Result], times: int = 4) -> Result:
    """What a store answers to several requests; of a server, within so many times the seconds that one may take.

    Raises TimeoutError.
    """
    return ask() if find_database() else await_server(ask, times * float(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]))


def check_database(database: Path) -> None:
    """Raises InputError for a file that is no database of MLflow's. The project's own, if its first use was cut short
    by a kill or a full disk, could never be opened again, and is removed.

    Only to be called by who holds the lock under which the database is made.
    """
    if not database.exists():
        return
    try:
        with closing(sqlite3.connect(database, timeout=60)) as connection:
            found = connection.execute("SELECT name, type FROM sqlite_master WHERE type != 'index'").fetchall()
            half_made = is_half_made(connection)
    except sqlite3.DatabaseError as error:
        raise InputError(f"{database}: not a database of MLflow's, or damaged ({error})") from None
    tables = sorted(name for name, kind in found if kind == "table")
    if half_made and database == OWN_DATABASE:
        database.unlink()
    elif half_made:
        raise InputError(f"{database}: half made, and holds no run; wait for who makes it, or remove it")
    elif found and not set(tables) >= TABLES:
        raise InputError(f"{database}: a database of something else, or damaged; tables: {', '.join(tables[:5])}")


def is_half_made(connection: sqlite3.Connection) -> bool:
    """Whether MLflow began to make this database, and was ended before its last step: to put an experiment in."""
    for table in ("experiments", "_alembic_tmp_experiments"):
        columns = {column for _, column, *_ in connection.execute(f"PRAGMA table_info({table})")}
        if {"experiment_id", "name", "artifact_location", "lifecycle_stage"} <= columns:
            return not connection.execute(f"SELECT 1 FROM {table}").fetchone()  # noqa: S608 - one of the two above
    return False


@contextmanager
def explain_store_errors() -> Iterator[None]:
    """What the store cannot do, as an InputError that names the store."""
    try:
        yield
    except BrokenPipeError:  # of who reads what is printed
        raise
    except list_store_errors() as error:
        if why := REFUSED.get(getattr(error, "error_code", "")):
            user = os.environ.get(USER, "a user without a name")
            raise InputError(f"MLflow at {show_uri()} refuses {user}: {why}") from None
        raise InputError(f"MLflow at {show_uri()} does not answer as it should: {first_line(error)}") from None


@contextmanager
def warn_of_lost_store(name: str) -> Iterator[None]:
    """A store that stops answering costs a stage nothing: a warning in place of an error."""
    try:
        yield
    except list_store_errors() as error:
        print(
            f"warning: MLflow at {show_uri()} stopped answering ({first_line(error)}); "
            f"{name} is safe in DVC, and register will log its run",
            file=sys.stderr,
        )


def list_store_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What a store may raise: its database, its server, or its disk. A library that is not imported raises nothing."""
    raised: list[type[Exception]] = [
        getattr(sys.modules[module], name)
        for module, names in LIBRARIES.items()
        for name in names
        if module in sys.modules
    ]
    return MlflowException, OSError, JSONDecodeError, *raised, *others


def first_line(error: BaseException) -> str:
    """The first line of a message, short, and without the password that an address in it may hold."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return line.replace(find_uri(), show_uri())[:300]
