"""train_all: what is not up to date from prepare to champion, several models side by side; `make repro` begins with it.

The stages begin as copies of one process, which has imported what all of them need, and `dvc commit` takes what they
write for what DVC has run.

Reads   dvc.yaml, dvc.lock, and what prepare, train@<model>, blend and champion read
Writes  what these write, and dvc.lock
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from importlib import import_module
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NoReturn

from stages.model.catalogue import require_models
from stages.shared.aside import call, end_with_parent
from stages.shared.cli import InputError, make_parser, run_command
from stages.shared.files import hash_file, hash_folder, read_yaml, stage_of

Task = tuple[Any, ...]  # a function by its dotted name, and its arguments

SETTINGS = ("params.yaml", "dvc.yaml")
SHARED = (  # what each process would import; the last when it opens a store that is a file
    "stages.model.training",
    "stages.model.blending",
    "stages.champion",
    "stages.tracking.runs",
    "mlflow.store.tracking.sqlalchemy_store",
)


def run_dvc(*arguments: str, stdout: int | None = None) -> str:
    """A command of DVC; what it prints, if stdout is a pipe. Raises InputError if it fails."""
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], stdout=stdout, text=True, check=False)
    if done.returncode:
        raise InputError(f"dvc {arguments[0]} failed")
    return done.stdout or ""


def list_stale(stages: list[str]) -> list[str]:
    """Those of the stages that DVC would run."""
    changed = json.loads(run_dvc("status", "--json", *stages, stdout=subprocess.PIPE))
    return [stage for stage in stages if stage in changed]


def run_apart(task: Task) -> None:
    """What a stage's command does, to the end of the process."""
    end_with_parent(sys.platform)
    with ExitStack() as ends:
        ends.callback(end_with_bug)
        run_command(lambda: call(*task))


def end_with_bug() -> NoReturn:
    """The end of a process by a bug, shown as Python shows it, which multiprocessing would not."""
    kind, error, trace = sys.exc_info()
    if kind and error:
        sys.excepthook(kind, error, trace)
    os._exit(1)


def run_side_by_side(tasks: dict[str, Task], jobs: int) -> Iterator[str]:
    """Run each stage in a process of its own, at most `jobs` at a time; those that succeeded, as they end."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    waiting = list(tasks)[::-1]  # the slow models come last in dvc.yaml, and begin first
    running: dict[Any, tuple[str, BaseProcess]] = {}
    while waiting or running:
        while waiting and len(running) < jobs:
            process = context.Process(target=run_apart, args=(tasks[waiting[0]],))
            process.start()
            running[process.sentinel] = (waiting.pop(0), process)
        for ended in wait(list(running)):
            stage, over = running.pop(ended)
            over.join()
            if over.exitcode == 0:
                yield stage


def hash_settings() -> dict[str, str]:
    """The md5 of what a person may change while stages run: the settings, and the code."""
    files = {name: hash_file(name) for name in SETTINGS if Path(name).is_file()}
    return files | {"stages/": hash_folder("stages", ["__pycache__"])}


def find_changed(asked: dict[str, str]) -> str | None:
    """What is not as it was when it was hashed."""
    now = hash_settings()
    return next((name for name, md5 in asked.items() if now.get(name) != md5), None)


def read_models() -> list[str]:
    """The models that dvc.yaml lists. Raises InputError if it lists none, or one twice."""
    listed = [part for part in read_yaml("dvc.yaml").get("vars", []) if isinstance(part, dict) and "train" in part]
    return require_models([*listed[0]["train"]["models"]] if listed else [])


def record(done: list[str], asked: dict[str, str]) -> None:
    """Have DVC take the outputs of stages for what it has run. Raises InputError if settings or code are others now."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the record is short, and half of it is none
    if changed := find_changed(asked):  # which DVC would record as what all was made with
        raise InputError(f"{changed} was changed meanwhile: nothing is recorded; run the same again")
    if done:
        run_dvc("commit", "--force", "--quiet", *done)


def main() -> None:
    parser = make_parser("train_all", __doc__, "--jobs 2")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="at most so many at a time (default: cores)")
    jobs = parser.parse_args().jobs
    if jobs < 1:
        raise InputError(f"--jobs must be at least 1, found {jobs}")
    asked = hash_settings()
    with ThreadPoolExecutor(1) as beside:
        prepared = beside.submit(run_dvc, "repro", "prepare")
        for module in SHARED:
            import_module(module)
    prepared.result()
    if changed := find_changed(asked):
        raise InputError(
            f"{changed} was changed while prepare ran: run `dvc repro --force prepare`, and the same again"
        )
    names = read_models()
    stale, done = list_stale([*map(stage_of, names), "blend", "champion"]), list[str]()
    steps: list[dict[str, Task]] = [
        {stage_of(name): ("stages.train.train", name) for name in names if stage_of(name) in stale},
        {"blend": ("stages.blend.blend", names)} if stale != ["champion"] else {},
        {"champion": ("stages.champion.choose_champion", names)},
    ]
    try:
        for tasks in steps if stale else ():
            for stage in run_side_by_side(tasks, jobs):
                done.append(stage)
            if left := [stage for stage in tasks if stage not in done]:  # which the next ones rest on
                raise InputError(f"not done: {', '.join(left)}")
    finally:  # also after Ctrl+C, what is done need not be done again
        record(done, asked)


if __name__ == "__main__":
    run_command(main)
