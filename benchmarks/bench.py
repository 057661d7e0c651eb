"""Measure the pipeline against its references, and write benchmarks/RESULTS.md and results.json.

    python -m benchmarks.bench                      all of it, about half an hour
    python -m benchmarks.bench --only phases        one part
    python -m benchmarks.bench --only team          with PostgreSQL and the packages of team.lock; not among all of it
    python -m benchmarks.bench --only cluster       with the packages of cluster.lock; half an hour, not among all of it

Every figure stands beside a reference measured in the same run on the same machine, by turns: compare the ratios,
not the seconds. Run after `dvc repro`, on a machine that does nothing else.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.latency import measure_latency
from benchmarks.measure import Line, Usage, format_table
from benchmarks.pipeline import measure_pipeline
from benchmarks.scale import format_scale, measure_scale
from benchmarks.tables import TABLES, format_tables, measure_tables

PARTS = ("pipeline", "phases", "latency", "scale", "tables")
APART = ("team", "cluster")
FACTORS = [1, 10, 100, 1000]
RESULTS = Path("benchmarks")


def measure_phases(repeats: int) -> dict[str, dict[str, float]]:
    """Median seconds that a quick and a slow model's train process spends on each of its parts."""
    found = {}
    for name in ("ridge", "gradient_boosting"):
        command = [sys.executable, "-m", "benchmarks.phases", name]
        runs = [
            json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stderr.splitlines()[-1])
            for _ in range(repeats)
        ]
        found[name] = {phase: sorted(run[phase] for run in runs)[repeats // 2] for phase in runs[0]}
    return found


def format_phases(phases: dict[str, dict[str, float]]) -> str:
    header = ["model", *next(iter(phases.values()))]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for name, spent in phases.items():
        lines.append(f"| {name} | {' | '.join(f'{seconds:.2f} s' for seconds in spent.values())} |")
    return "\n".join(lines)


def measure(part: str, repeats: int, factors: list[int]) -> tuple[str, Any]:
    """One part as Markdown, and as plain data."""
    if part == "scale":
        taken = measure_scale(factors)
        return format_scale(taken, 1460), taken
    if part == "tables":
        measured = measure_tables(list(TABLES))
        return format_tables(measured), measured
    if part == "phases":
        phases = measure_phases(repeats)
        return format_phases(phases), phases
    lines = measure_lines(part, repeats)
    return format_table(lines), lines


def measure_lines(part: str, repeats: int) -> list[Line]:
    if part == "team":
        from benchmarks.team import measure_team

        return measure_team(repeats)
    if part == "cluster":
        from benchmarks.cluster import measure_cluster

        return measure_cluster()
    return measure_pipeline(repeats) if part == "pipeline" else measure_latency()


def to_plain(content: Any) -> Any:
    if isinstance(content, Line | Usage):
        return content._asdict()
    if isinstance(content, dict):
        return {str(key): to_plain(value) for key, value in content.items()}
    return [to_plain(value) for value in content] if isinstance(content, list) else content


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=[*PARTS, *APART], help="measure one part; the others keep their tables")
    parser.add_argument("--repeats", type=int, default=5, help="medians of so many (default 5)")
    parser.add_argument("--factors", type=int, nargs="+", default=FACTORS, help="times the rows (default 1 to 1000)")
    arguments = parser.parse_args()
    for part in [arguments.only] if arguments.only else PARTS:
        text, found = measure(part, arguments.repeats, arguments.factors)
        print(f"\n{text}\n", flush=True)
        write_part(part, text, found)


def write_part(part: str, text: str, found: Any) -> None:
    """Put a part's table between its marks in RESULTS.md, whose words are written by hand, and its data beside it."""
    path = RESULTS / "RESULTS.md"
    before, start, rest = path.read_text().partition(f"<!-- {part} -->\n")
    _, end, after = rest.partition("<!-- end -->")
    path.write_text(f"{before}{start}{text}\n{end}{after}")
    path = RESULTS / "results.json"
    content = json.loads(path.read_text()) if path.exists() else {}
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    path.write_text(json.dumps(content | {"machine": machine, part: to_plain(found)}, indent=2) + "\n")


if __name__ == "__main__":
    main()
