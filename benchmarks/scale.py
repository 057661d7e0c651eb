"""How time and memory of each stage grow with the number of rows."""

import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.generate import generate
from benchmarks.measure import Usage, run
from stages.table.dictionary import read_dictionary
from tests.conftest import Project, copy_project

STAGES = [
    "prepare",
    "linear",
    "ridge",
    "lasso",
    "decision_tree",
    "random_forest",
    "gradient_boosting",
    "xgboost",
    "lightgbm",
]
SETTINGS = {"cv_folds": 0, "threads": 2}  # as the README advises for large tables


def time_stage(project: Project, stage: str) -> Usage:
    command = ["stages.prepare"] if stage == "prepare" else ["stages.train", stage]
    return run([sys.executable, "-m", *command], project.root, project.env)


def measure_scale(factors: list[int]) -> dict[str, dict[int, Usage | None]]:
    """What each stage took on each table; None where it failed."""
    taken: dict[str, dict[int, Usage | None]] = {stage: {} for stage in STAGES}
    with tempfile.TemporaryDirectory() as folder:
        project = copy_project(Path(folder, "project"))
        dictionary = read_dictionary(str(project.root / "data/dictionary.yaml"))
        source = str(project.root / "data/raw/train.csv")
        for factor in factors:
            table = Path(folder, "table.csv")
            generate(source, dictionary, factor, table)
            project.set_params(data={"path": str(table)}, fit=SETTINGS)
            for stage in STAGES:
                taken[stage][factor] = None
                try:
                    taken[stage][factor] = time_stage(project, stage)
                except subprocess.CalledProcessError as error:
                    print(f"bench: {stage} failed on {factor} times the rows: {error.stderr[-300:]}", flush=True)
                print(f"bench: {factor} times the rows: {stage} {taken[stage][factor]}", flush=True)
    return taken


def find_slope(taken: dict[int, Usage | None]) -> float | None:
    """How much faster than the rows the time grew over the last step; 1 is in proportion."""
    measured = [(factor, usage) for factor, usage in taken.items() if usage]
    if len(measured) < 2:
        return None
    (before, first), (after, second) = measured[-2:]
    return (second.seconds / first.seconds) / (after / before)


def format_scale(taken: dict[str, dict[int, Usage | None]], n_rows: int) -> str:
    factors = list(next(iter(taken.values())))
    header = ["stage", *(f"{factor * n_rows:,} rows" for factor in factors), "last step, 1 is in proportion"]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for stage, usages in taken.items():
        cells = [f"{u.seconds:.1f} s, {u.peak / 1e9:.1f} GB" if u else "" for u in usages.values()]
        slope = find_slope(usages)
        lines.append(f"| {' | '.join([stage, *cells, '' if slope is None else f'{slope:.2f}'])} |")
    return "\n".join(lines)
