"""Kill `dvc repro` and `stages.predict` at random moments, and check what the next one makes of it.

    python -m benchmarks.crash --kills 40

Works in a temporary copy of the repository with two quick models. A kill takes the stage alone, or DVC with it. After
each, `dvc repro` must end well, MLflow must hold one finished run for each result and no run that goes on, dvc.lock
must name the bytes that are there, and Production must load and price. Each fifth kill hits a prediction: its output
must be whole, the one from before or the new one. Ends with 1 at the first thing that is not so.

DVC does not write its own dvc.lock and .dvc/tmp/rwlock whole. If a kill hits just that, `git checkout dvc.lock` or
`rm .dvc/tmp/rwlock` puts it right, as its message suggests; that is done here, and counted.
"""

import argparse
import random
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

from stages.shared.files import hash_file, hash_folder
from tests.conftest import Project, find_runs, make_small, production_of


def run_and_kill(project: Project, command: list[str], seconds: float, *, whole: bool) -> str:
    """Start a command, kill what it started, or all of it, after so many seconds; the last line that it printed."""
    process = subprocess.Popen(
        command, cwd=project.root, env=project.env, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        victims = psutil.Process(process.pid).children(recursive=True)
        for victim in [psutil.Process(process.pid), *victims] if whole else victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
    printed, _ = process.communicate()
    return (printed.strip().splitlines() or ["nothing yet"])[-1]


def repro(project: Project) -> bool:
    """Run `dvc repro`, and say whether a file of DVC's own had to be put right for it."""
    done = project.run("dvc", "repro", check=False)
    torn_lock, torn_rwlock = "dvc.lock' validation failed" in done.stderr, "Unable to read RWLock-file" in done.stderr
    assert torn_lock or torn_rwlock or done.returncode == 0, done.stderr
    if torn_lock:
        project.run("git", "checkout", "dvc.lock")
    if torn_rwlock:
        (project.root / ".dvc/tmp/rwlock").unlink()
    if torn_lock or torn_rwlock:
        project.run("dvc", "repro")
    return torn_lock or torn_rwlock


def check(project: Project) -> None:
    """Raises AssertionError if DVC's files, MLflow's runs or Production are not whole."""
    names = ("ridge", "decision_tree", "blend")
    lock = yaml.safe_load((project.root / "dvc.lock").read_text())["stages"]
    for stage in lock.values():
        for out in stage.get("outs", []):
            path = project.root / out["path"]
            assert (hash_folder if path.is_dir() else hash_file)(path) == out["md5"], out["path"]
    finished = find_runs(project)
    for name in names:
        md5 = hash_file(project.root / "models" / name)
        assert any(run.data.tags["dvc.model_md5"] == md5 for run in finished), name
    assert all("test_r2" in run.data.metrics for run in finished)
    assert find_runs(project, "RUNNING") == []
    production_of(project)


def predict(table: str) -> list[str]:
    """The command that prices a table into prices.csv."""
    return [sys.executable, "-m", "stages.predict", f"data/raw/{table}.csv", "--output", "prices.csv"]


def kill_predict(project: Project, seconds: float) -> str:
    """Kill the pricing of one table over the prices of another; the last line that it printed."""
    prices, whole = project.root / "prices.csv", []
    for table in ("test", "train"):
        project.run(*predict(table))
        whole.append(hash_file(prices))
    last = run_and_kill(project, predict("test"), seconds, whole=True)
    assert hash_file(prices) in whole, "prices.csv is torn"
    project.run(*predict("test"))
    assert hash_file(prices) == whole[0]
    return last


def kill_repro(project: Project, number: int, seconds: float, *, whole: bool) -> tuple[str, bool]:
    """Kill `dvc repro` on new settings, and put all in order: the last line that it printed, and whether it tore a file
    of DVC's own.
    """
    project.set_params(data={"seed": number}, ridge={"alpha": float(number)})
    last = run_and_kill(project, ["dvc", "repro"], seconds, whole=whole)
    torn = repro(project)
    check(project)
    project.commit(f"{number}")
    return last, torn


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--longest", type=float, default=12, help="seconds that a `dvc repro` here may take")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw, torn = random.Random(arguments.seed), 0  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        project = make_small(Path(folder, "project"))
        project.run("dvc", "repro")
        project.commit("run")
        for number in range(1, arguments.kills + 1):
            if number % 5 == 0:
                seconds, what = draw.uniform(0.2, 3), "a prediction"
                last = kill_predict(project, seconds)
            else:
                seconds, whole = draw.uniform(0.5, arguments.longest), bool(number % 2)
                what = "DVC and its stage" if whole else "the stage"
                last, tore = kill_repro(project, number, seconds, whole=whole)
                torn += tore
            print(f"crash: {number:2d}/{arguments.kills} {what} killed after {seconds:4.1f} s, at: {last}", flush=True)
    print(f"crash: {arguments.kills} kills, and each time the next `dvc repro` put all in order")
    print(f"crash: {torn} of them tore a file of DVC's own")


if __name__ == "__main__":
    main()
