"""The pipeline against the plain script: from nothing, side by side, again without a change, and with one changed."""

import itertools
import os
import shutil
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks.measure import Line, run, take_turns
from tests.conftest import Project, copy_project


def empty(project: Project) -> None:
    """Take away all that a run left behind: outputs, cache, store."""
    for name in ("mlruns", "models", "scores", "plots", "data/prepared", ".dvc/cache", ".dvc/tmp"):
        shutil.rmtree(project.root / name, ignore_errors=True)
    for path in project.root.glob("mlflow.db*"):
        path.unlink()


def prepare_project(folder: Path) -> Project:
    """A copy of the repository in which `make` takes the environment as set up."""
    project = copy_project(folder / "project")
    (project.root / ".venv").symlink_to(Path(sys.executable).parent.parent)
    (project.root / ".venv" / "ready").touch()
    os.utime(project.root / "requirements.lock", (0, 0))
    return project


def measure_pipeline(repeats: int) -> list[Line]:
    with tempfile.TemporaryDirectory() as folder:
        project = prepare_project(Path(folder))

        busy = []

        def time_cold(*args: str) -> float:
            empty(project)
            usage = run(list(args), project.root, project.env)
            busy.append(usage.cpu)
            return usage.seconds

        plain = [sys.executable, "benchmarks/plain_script.py"]
        cold = take_turns(
            {
                "plain script": lambda: time_cold(*plain),
                "dvc repro": lambda: time_cold("dvc", "repro"),
                "make repro": lambda: time_cold("make", "repro"),
            },
            repeats,
        )
        cpu = statistics.median(busy[1::3])
        again = take_turns(
            {
                "dvc status": lambda: run(["dvc", "status"], project.root, project.env).seconds,
                "dvc repro, nothing changed": lambda: run(["dvc", "repro"], project.root, project.env).seconds,
            },
            repeats,
        )
        trees = itertools.count(701)  # 700 is what stands there

        def time_experiment() -> float:
            changed = f"xgboost.n_estimators={next(trees)}"
            return run(["dvc", "exp", "run", "-S", changed], project.root, project.env).seconds

        one = take_turns({"dvc exp run, one parameter": time_experiment}, repeats)
    return [
        compare("`dvc repro` from nothing", cold["dvc repro"], "plain script", cold["plain script"], "≤ 1.0"),
        Line("the same, in processor time", f"{cpu:.1f} s", "", None, "≤ 40 s"),
        compare("`make repro`, all cores", cold["make repro"], "plain script", cold["plain script"], "≤ 0.75"),
        compare(
            "`dvc repro`, no change", again["dvc repro, nothing changed"], "`dvc status`", again["dvc status"], "≤ 2.0"
        ),
        compare(
            "`dvc exp run`, one parameter",
            one["dvc exp run, one parameter"],
            "from nothing",
            cold["dvc repro"],
            "≤ 0.25",
        ),
    ]


def compare(what: str, seconds: float, reference: str, reference_seconds: float, goal: str) -> Line:
    return Line(what, f"{seconds:.1f} s", f"{reference} {reference_seconds:.1f} s", seconds / reference_seconds, goal)
