"""A Dask cluster to work on, workers that are fit for it, and what happens when one of them is lost."""

import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future as Outcome
from concurrent.futures import wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import dask
from distributed import Client, Future, KilledWorker, LocalCluster, Worker, WorkerPlugin, as_completed
from distributed.client import FutureCancelledError
from distributed.comm import CommClosedError
from distributed.versions import VersionMismatchWarning

from stages.shared.cli import InputError

T = TypeVar("T")

SECONDS_PER_LINE = 5  # of progress
SECONDS_TO_ANSWER = 5
SECONDS_TO_RETURN = 60  # of a worker that was lost, and of those that wait for it
PACKAGES = ("dask", "distributed", "lightgbm", "numpy", "pandas", "pyarrow", "scikit-learn", "xgboost")
LOST = (CommClosedError, FutureCancelledError, KilledWorker, TimeoutError)  # what the end of a worker raises
SETTINGS = {
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.timeouts.tcp": "120s",
    "distributed.deploy.lost-worker-timeout": "10m",  # after which nobody starts it again
    "distributed.logging.distributed": "critical",
    "distributed.nanny.pre-spawn-environ.DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "critical",
}


@contextmanager
def connect(address: str) -> Iterator[Client]:
    """A client of the cluster at an address; of `local`, one process for each core, which end with the block.

    Raises InputError if no scheduler answers, if it has no workers, or if they cannot run what is sent to them.
    """
    with dask.config.set(SETTINGS), open_client(address) as client:
        check_workers(client)
        print(f"cluster: {len(client.ncores())} worker(s), dashboard {client.dashboard_link}", flush=True)
        yield client


class Hush(WorkerPlugin):
    """What boosters print of each other's addresses does not come between the lines of a stage on this machine."""

    def setup(self, worker: Worker) -> None:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)


@contextmanager
def open_client(address: str) -> Iterator[Client]:
    if address == "local":
        with (
            tempfile.TemporaryDirectory() as folder,
            LocalCluster(
                n_workers=os.cpu_count(), threads_per_worker=1, dashboard_address="127.0.0.1:0", local_directory=folder
            ) as cluster,
            Client(cluster) as client,
        ):
            client.register_plugin(Hush())
            yield client
        return
    where = f"params.yaml: cluster.address = {address}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", VersionMismatchWarning)  # check_workers says it in a line
            client = Client(address, timeout=SECONDS_TO_ANSWER)
    except (OSError, ValueError):
        raise InputError(f"{where}: no scheduler answers there") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=SECONDS_TO_ANSWER)
        except TimeoutError:
            raise InputError(f"{where}: the scheduler there has no workers; start some with `dask worker`") from None
        yield client


def make_probe() -> Callable[[], dict[str, str]]:
    """A function that tells versions and where the project is; inside another, Dask sends its code and not its name."""
    root, packages = str(Path.cwd()), PACKAGES

    def probe() -> dict[str, str]:
        import importlib.metadata
        import importlib.util
        import pathlib
        import platform

        found = {"Python": platform.python_version()}
        for name in packages:
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = "none"
        spec = importlib.util.find_spec("stages")
        places = [*(spec.submodule_search_locations or [])] if spec else []
        found["stages on its path"] = str(pathlib.Path(places[0]).resolve()) if places else "none"
        found["folder of the project"] = root if pathlib.Path(root).is_dir() else "none"
        return found

    return probe


def check_workers(client: Client) -> None:
    """Raises InputError that lists what differs on each worker from this machine."""
    probe = make_probe()
    here, faults = probe(), []
    for worker, there in client.run(probe).items():
        different = [f"{key} {there[key]}, here {value}" for key, value in here.items() if there[key] != value]
        if different:
            faults.append(f"{worker}: {'; '.join(different)}")
    if faults:
        raise InputError(f"{len(faults)} worker(s) cannot run this project; each needs the same packages", faults)


def map_parts(client: Client, function: Callable[..., T], parts: Iterable[Any], what: str, **shared: Any) -> list[T]:
    """What a function returns for each part, in their order, with a line of progress every few seconds.

    Raises InputError if one part kills worker after worker.
    """
    futures = client.map(partial(function, **shared), list(parts), pure=False)
    return collect(client, futures, what)


def collect(client: Client, futures: list[Future], what: str) -> list[Any]:
    advice = advise_on_memory(client)  # while there are workers to ask
    shown = time.monotonic()
    for count, _ in enumerate(as_completed(futures), start=1):
        if time.monotonic() - shown >= SECONDS_PER_LINE:
            shown = time.monotonic()
            print(f"{what}: {count} of {len(futures)} parts", file=sys.stderr, flush=True)
    try:
        with explain_loss(what):
            return client.gather(futures)
    except LossError as error:
        raise InputError(f"{error}; {advice}") from None


class LossError(InputError):
    """Workers are lost, and what they did with them."""


@contextmanager
def explain_loss(what: str, *others: type[Exception]) -> Iterator[None]:
    """The loss of workers as a LossError. others: what a library raises on those that are left."""
    lost: tuple[type[Exception], ...] = (*LOST, *others)
    try:
        yield
    except lost as error:
        said = (str(error).strip().splitlines() or [""])[0][:200]
        raise LossError(f"{what}: workers were lost ({type(error).__name__}: {said})") from None


def advise_on_memory(client: Client) -> str:
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    limits = [worker["memory_limit"] for worker in workers if worker["memory_limit"]]
    size = f"of at most {min(limits) / 1e7:,.0f} MB, a tenth of a worker's memory" if limits else "that are smaller"
    return f"the usual reason is memory: write parts {size}"


def fit_together(client: Client, fit: Callable[[], T], what: str) -> T:
    """What a fit over all workers returns; begun once more if one of them is lost, which ends it.

    Begun when as many workers are there as before, or else with those that are left. Raises InputError if it is lost
    again.
    """
    n_workers, advice = len(client.ncores()), advise_on_memory(client)
    try:
        return watch(client, fit, what)
    except LossError as error:
        print(f"{error}; once more", file=sys.stderr, flush=True)
    with suppress(TimeoutError):
        client.wait_for_workers(n_workers, timeout=SECONDS_TO_RETURN)
    try:
        return watch(client, fit, what)
    except LossError as error:
        raise InputError(f"{error}, twice; {advice}") from None


def watch(client: Client, fit: Callable[[], T], what: str) -> T:
    """What a fit returns. Raises LossError if a worker goes meanwhile: the others would wait for it for ever."""
    workers, outcome = set(client.ncores()), Outcome[T]()

    def run() -> None:
        try:
            outcome.set_result(fit())
        except BaseException as error:
            outcome.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    while not wait([outcome], timeout=1).done:
        if workers - set(client.ncores()):
            wait([outcome], timeout=SECONDS_TO_RETURN)  # those that are left find out by themselves
            raise LossError(f"{what}: a worker was lost")
    with explain_loss(what):
        return outcome.result()
