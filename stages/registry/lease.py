"""One process at a time changes the registry, also where clones share nothing but a server.

Lamport's bakery (CACM 17:8, 1974), with tags of the registered model as its numbers: who wants to write takes a number
above all that it sees, and the lowest goes first. A tag is renewed while its process lives, and expires soon after.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from threading import Event, Thread
from uuid import uuid4

import mlflow

from stages.registry.versions import ensure_model, name_model
from stages.shared.cli import InputError
from stages.shared.processes import has_ended, name_process
from stages.tracking.connection import list_store_errors, within_limit
from stages.tracking.store import find_database, lock_store

LEASE = "lease."  # + process/chance: a number, 0 while it is being chosen, and when it was renewed
SECONDS = 30  # that a ticket lives without being renewed, which is tried three times as often
PATIENCE = 600  # seconds to wait for one's turn

Seen = dict[str, tuple[str, float]]  # each ticket as it was when it last changed, and when that was seen here


@contextmanager
def hold_registry() -> Iterator[Callable[[], None]]:
    """Nobody else changes the registry within. If this process is killed, others on this machine go on at once, and
    those elsewhere after SECONDS. No clock is compared with another machine's.

    Yields what raises InputError if it is this process's turn no more: it slept, or its server was away, for so long
    that others have gone on. Raises InputError if the turn does not come.
    """
    if find_database():
        with lock_store():
            yield lambda: None
        return
    owner, seen = f"{name_process()}/{uuid4().hex[:8]}", Seen()
    within_limit(ensure_model)
    within_limit(lambda: write_ticket(owner, 0))
    try:
        number = 1 + max((number for number, _ in within_limit(partial(read_tickets, seen))), default=0)
        within_limit(lambda: write_ticket(owner, number))
        with renew_ticket(owner, number):
            await_turn(owner, number, seen)
            yield partial(require_turn, owner)
    finally:
        with suppress(*list_store_errors(TimeoutError)):  # the server is gone: the ticket expires
            within_limit(lambda: delete_ticket(f"{LEASE}{owner}"))


def write_ticket(owner: str, number: int) -> None:
    mlflow.MlflowClient().set_registered_model_tag(name_model(), f"{LEASE}{owner}", f"{number} {time.time():.3f}")


def delete_ticket(key: str) -> None:
    mlflow.MlflowClient().delete_registered_model_tag(name_model(), key)


def read_tickets(seen: Seen) -> list[tuple[int, str]]:
    """(number, owner) of all that wait or write. What a dead process left is removed."""
    waiting = []
    for key, value in mlflow.MlflowClient().get_registered_model(name_model()).tags.items():
        if key.startswith(LEASE):
            owner = key.removeprefix(LEASE)
            if seen.get(key, ("", 0))[0] != value:
                seen[key] = value, time.monotonic()
            if has_ended(owner.partition("/")[0]) or time.monotonic() > seen[key][1] + SECONDS:
                delete_ticket(key)
            else:
                waiting.append((int(value.partition(" ")[0]), owner))
    return waiting


def has_ticket(owner: str) -> bool:
    """Whether nobody has taken the process for dead."""
    return f"{LEASE}{owner}" in mlflow.MlflowClient().get_registered_model(name_model()).tags


def require_turn(owner: str) -> None:
    if not has_ticket(owner):
        raise InputError(f"{name_model()}: others did not hear of this process for {SECONDS} s and went on; try again")


@contextmanager
def renew_ticket(owner: str, number: int) -> Iterator[None]:
    """A ticket lives as long as this lasts."""
    over = Event()

    def renew() -> None:
        while not over.wait(SECONDS / 3):
            with suppress(*list_store_errors()):  # the next try may do; else the ticket expires, as it should
                if has_ticket(owner):
                    write_ticket(owner, number)

    thread = Thread(target=renew, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()  # else it could put back a ticket that is deleted


def await_turn(owner: str, number: int, seen: Seen) -> None:
    """Return once no ticket comes before this one."""
    deadline = time.monotonic() + PATIENCE
    while before := [ticket for ticket in within_limit(partial(read_tickets, seen)) if ticket < (number, owner)]:
        if time.monotonic() > deadline:
            raise InputError(f"{name_model()}: {before[0][1]} has been changing the registry for {PATIENCE} s")
        time.sleep(0.2)
