"""Whole processes, timed by turns, and the table that shows them."""

import statistics
import subprocess
import sys
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
    """What a command took: wall-clock seconds, those of processors, and the most memory that one of its processes held
    at once, in bytes.
    """

    seconds: float
    cpu: float
    peak: int


# A process counts the memory of the one that forked it as its own peak, so a small one forks, waits and reports. On
# Linux, processes that outlive the one which started them become its own, so that their share is counted too.
LAUNCHER = """
import ctypes, os, sys, time
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
started = time.perf_counter()
process = os.posix_spawnp(sys.argv[1], sys.argv[1:], os.environ)
cpu = peak = 0
while True:
    try:
        ended, status, usage = os.wait4(-1, 0)
    except ChildProcessError:
        break
    if ended == process:
        seconds, code = time.perf_counter() - started, os.waitstatus_to_exitcode(status)
    cpu, peak = cpu + usage.ru_utime + usage.ru_stime, max(peak, usage.ru_maxrss)
os.write(2, f"\\n{seconds} {cpu} {peak * 1024}".encode())
os._exit(code != 0)
"""


def run(args: list[str], cwd: Path, env: Mapping[str, str]) -> Usage:
    """Run a command to its end, silently. Raises CalledProcessError with what it printed if it fails."""
    command = [sys.executable, "-S", "-c", LAUNCHER, *args]
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=True)
    seconds, cpu, peak = done.stderr.splitlines()[-1].split()
    return Usage(float(seconds), float(cpu), int(peak))


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
