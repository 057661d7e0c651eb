"""One process at a time changes the registry, also where clones share nothing but a server.

Lamport's bakery (CACM 17:8, 1974), with tags of the registered model as its numbers: who wants to write takes a number
above all that it sees, and the lowest goes first. A tag is renewed while its process lives, and expires soon after.
"""

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from uuid import uuid4

import mlflow
import psutil
from mlflow.exceptions import MlflowException

from stages.registry.versions import ensure_model, name_model
from stages.shared.cli import InputError
from stages.tracking.connection import within_limit
from stages.tracking.store import find_database, lock_store

LEASE = "lease."  # + machine:process:chance: a number, 0 while it is being chosen, and when it expires
SECONDS = 30  # that a ticket lives without being renewed, which is tried three times as often
PATIENCE = 600  # seconds to wait for one's turn


@contextmanager
def hold_registry() -> Iterator[None]:
    """Nobody else changes the registry within: others wait, for seconds only if this process is killed.

    Raises InputError if the turn does not come.
    """
    if find_database():
        with lock_store():
            yield
        return
    owner, over = f"{platform.node()}:{os.getpid()}:{uuid4().hex[:8]}", Event()
    within_limit(ensure_model)
    within_limit(lambda: write_ticket(owner, 0))
    try:
        number = 1 + max((number for number, _ in within_limit(read_tickets)), default=0)
        within_limit(lambda: write_ticket(owner, number))
        Thread(target=renew, args=(owner, number, over), daemon=True).start()
        await_turn(owner, number)
        yield
    finally:
        over.set()
        with suppress(MlflowException, TimeoutError):  # the server is gone: the ticket expires
            within_limit(lambda: delete_ticket(f"{LEASE}{owner}"))


def write_ticket(owner: str, number: int) -> None:
    mlflow.MlflowClient().set_registered_model_tag(
        name_model(), f"{LEASE}{owner}", f"{number} {time.time() + SECONDS:.0f}"
    )


def delete_ticket(key: str) -> None:
    mlflow.MlflowClient().delete_registered_model_tag(name_model(), key)


def read_tickets() -> list[tuple[int, str]]:
    """(number, owner) of all that wait or write. What a dead process left is removed."""
    waiting = []
    for key, value in mlflow.MlflowClient().get_registered_model(name_model()).tags.items():
        if key.startswith(LEASE):
            number, _, until = value.partition(" ")
            if is_alive(key.removeprefix(LEASE), float(until)):
                waiting.append((int(number), key.removeprefix(LEASE)))
            else:
                delete_ticket(key)
    return waiting


def is_alive(owner: str, until: float) -> bool:
    node, process, _ = owner.rsplit(":", 2)
    return time.time() < until and (node != platform.node() or psutil.pid_exists(int(process)))


def renew(owner: str, number: int, over: Event) -> None:
    while not over.wait(SECONDS / 3):
        try:
            write_ticket(owner, number)
        except MlflowException:  # the next try may do; else the ticket expires, as it should
            continue


def await_turn(owner: str, number: int) -> None:
    """Return once no ticket comes before this one."""
    deadline = time.monotonic() + PATIENCE
    while before := [ticket for ticket in within_limit(read_tickets) if ticket < (number, owner)]:
        if time.monotonic() > deadline:
            raise InputError(f"{name_model()}: {before[0][1]} has been changing the registry for {PATIENCE} s")
        time.sleep(0.2)
