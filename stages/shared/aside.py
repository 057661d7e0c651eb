"""Work in processes of their own, beside this one: for the core that imports leave idle."""

import ctypes
import multiprocessing
import os
import signal
import sys
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from threading import Thread
from typing import Any

from stages.shared.cli import InputError

KILLED = "a process beside this one was killed; the usual reason is that memory ran out"


def start_aside(processes: int = 1) -> Executor:
    """Processes for calls, each for one at a time.

    They end with this process, however that ends. On Linux they begin with all that is imported here.
    """
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    return ProcessPoolExecutor(processes, context, initializer=end_with_parent, initargs=(sys.platform,))


def end_with_parent(platform: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent to answer
    if platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG
    else:
        Thread(target=follow_parent, daemon=True).start()


def follow_parent() -> None:
    """End this process when its parent has ended."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
    os._exit(1)


def submit(aside: Executor, function: str, *args: object) -> Future[Any]:
    """Call a function there by its dotted name, so that what it needs is imported there and not here.

    Raises InputError if the process was killed before.
    """
    try:
        return aside.submit(call, function, *args)
    except BrokenProcessPool:
        raise InputError(KILLED) from None


def call(function: str, *args: object) -> Any:
    module, _, name = function.rpartition(".")
    return getattr(import_module(module), name)(*args)


def wait_for(future: Future[Any]) -> Any:
    """What the call returns or raises. Raises InputError if its process was killed."""
    try:
        return future.result()
    except BrokenProcessPool:
        raise InputError(KILLED) from None
