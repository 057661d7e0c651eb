"""train_all: every train@<model> that is not up to date, several side by side; `make repro` begins with it.

They begin as copies of one process, which has imported what all of them need, and `dvc commit` takes what they write
for what the stages have written.

Reads   dvc.yaml, dvc.lock, and what train@<model> reads
Writes  what train@<model> writes, and dvc.lock
"""

import json
import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from typing import Any, NoReturn

from stages.shared.aside import end_with_parent
from stages.shared.cli import InputError, make_parser, run_command
from stages.shared.files import hash_file, read_yaml, stage_of
from stages.train import train

SHARED = (  # what each model's process would import; the last when it opens a store that is a file
    "stages.model.training",
    "stages.tracking.runs",
    "mlflow.store.tracking.sqlalchemy_store",
)


def run_dvc(*arguments: str, stdout: int | None = None) -> str:
    """A command of DVC; what it prints, if stdout is a pipe. Raises InputError if it fails."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], stdout=stdout, text=True, check=False)
    if done.returncode:
        raise InputError(f"dvc {arguments[0]} failed")
    return done.stdout or ""


def list_stale() -> list[str]:
    """Models whose stage DVC would run."""
    names = read_yaml("dvc.yaml")["vars"][0]["train"]["models"]
    changed = json.loads(run_dvc("status", "--json", *map(stage_of, names), stdout=subprocess.PIPE))
    return [name for name in names if stage_of(name) in changed]


def train_apart(name: str) -> None:
    """What `python -m stages.train` does, to the end of the process."""
    end_with_parent(sys.platform)
    with ExitStack() as ends:
        ends.callback(end_with_bug)
        run_command(lambda: train(name))


def end_with_bug() -> NoReturn:
    """The end of a process by a bug, shown as Python shows it, which multiprocessing would not."""
    kind, error, trace = sys.exc_info()
    if kind and error:
        sys.excepthook(kind, error, trace)
    os._exit(1)


def train_side_by_side(names: list[str], jobs: int) -> list[str]:
    """Train each model in a process of its own, at most `jobs` at a time; those that were trained."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    waiting, trained = names[::-1], []  # the slow ones come last in dvc.yaml, and begin first
    running: dict[Any, tuple[str, BaseProcess]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            process = context.Process(target=train_apart, args=(waiting[0],))
            process.start()
            running[process.sentinel] = (waiting.pop(0), process)
        for ended in wait(list(running)):
            name, over = running.pop(ended)
            over.join()
            trained += [name] if over.exitcode == 0 else []
    return trained


def main() -> None:
    parser = make_parser("train_all", __doc__, "--jobs 2")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at most so many at a time (default: cores)")
    jobs = parser.parse_args().jobs
    if jobs < 1:
        raise InputError(f"--jobs must be at least 1, found {jobs}")
    with ThreadPoolExecutor(1) as beside:
        prepared = beside.submit(run_dvc, "repro", "prepare")
        for module in SHARED:
            import_module(module)
    prepared.result()
    stale, asked = list_stale(), hash_file("params.yaml")
    trained = train_side_by_side(stale, jobs)
    if hash_file("params.yaml") != asked:  # which DVC would record as what they were trained with
        raise InputError("params.yaml was changed meanwhile: nothing is recorded; run the same again")
    if trained:
        run_dvc("commit", "--force", "--quiet", *map(stage_of, trained))
    if lost := [stage_of(name) for name in stale if name not in trained]:
        raise InputError(f"not trained: {', '.join(lost)}")


if __name__ == "__main__":
    run_command(main)
