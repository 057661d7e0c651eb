"""Work for the core that a stage leaves idle while it imports MLflow and talks to it."""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Result = TypeVar("Result")


@contextmanager
def run_aside(function: Callable[..., Result], *args: object) -> Iterator[Callable[[], Result]]:
    """Run a function in a forked child during the block; what is given waits for its result.

    The child starts at once with all that is imported and loaded, and ends with its one answer or with the block.
    Where processes cannot fork (Windows), the function runs when its result is asked for. Calling what is given
    raises EOFError if the child failed; its traceback is then on stderr.
    """
    if "fork" not in multiprocessing.get_all_start_methods():
        yield lambda: function(*args)
        return
    receiver, sender = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.get_context("fork").Process(target=lambda: sender.send(function(*args)), daemon=True)
    child.start()
    sender.close()
    try:
        yield receiver.recv
    finally:
        child.terminate()
        child.join()
