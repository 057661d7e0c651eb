"""Whole processes, timed by turns, and the table that shows them."""

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple


class Line(NamedTuple):
    """One line of the table: a figure, the reference measured beside it, their ratio, and the goal for the ratio."""

    what: str
    figure: str
    beside: str
    ratio: float | None
    goal: str


class Usage(NamedTuple):
    """What a process took: wall-clock seconds, and the most memory that it held at once, in bytes."""

    seconds: float
    peak: int


def run(args: list[str], cwd: Path, env: Mapping[str, str]) -> Usage:
    """Run a command to its end, silently. Raises CalledProcessError with what it printed if it fails."""
    started = time.perf_counter()
    process = subprocess.Popen(args, cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    printed = process.stdout.read() if process.stdout else ""
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, args, printed)
    return Usage(seconds, usage.ru_maxrss * 1024)


def take_turns(calls: dict[str, Callable[[], float]], repeats: int) -> dict[str, float]:
    """Median of what each call gives; they take turns, so that a busy moment of the machine hits them alike."""
    taken: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(repeats):
        for name, call in calls.items():
            taken[name].append(call())
            print(f"bench: turn {turn + 1}/{repeats}: {name} {taken[name][-1]:.2f}", flush=True)
    return {name: statistics.median(values) for name, values in taken.items()}


def format_table(lines: list[Line]) -> str:
    rows = [
        f"| {line.what} | {line.figure} | {line.beside} | {'' if line.ratio is None else f'{line.ratio:.2f}'} "
        f"| {line.goal} |"
        for line in lines
    ]
    return "\n".join(["| what | figure | beside | ratio | goal |", "|---|---|---|---|---|", *rows])
