"""Kill `dvc repro` at random moments, and check what the next one makes of it.

    python -m benchmarks.crash --kills 40

Works in a temporary copy of the repository with two quick models. A kill takes the stage alone, or DVC with it. After
each, `dvc repro` must end well, MLflow must hold one finished run for each result and no run that goes on, dvc.lock
must name the bytes that are there, and Production must load and price. Ends with 1 at the first thing that is not so.

DVC does not write its own dvc.lock and .dvc/tmp/rwlock whole. If a kill hits just that, `git checkout dvc.lock` or
`rm .dvc/tmp/rwlock` puts it right, as its message suggests; that is done here, and counted.
"""

import argparse
import random
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import yaml

from stages.shared.files import hash_file, hash_folder
from tests.conftest import Project, find_runs, make_small, production_of


def kill_repro(project: Project, seconds: float, *, whole: bool) -> str:
    """Start `dvc repro`, kill its stage, or all of it, after so many seconds; the last line that it printed."""
    process = subprocess.Popen(
        ["dvc", "repro"], cwd=project.root, env=project.env, stdout=subprocess.PIPE, text=True, start_new_session=True
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.crash", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    draw, torn = random.Random(arguments.seed), 0  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        project = make_small(Path(folder, "project"))
        project.run("dvc", "repro")
        project.commit("run")
        for number in range(1, arguments.kills + 1):
            project.set_params(data={"seed": number}, ridge={"alpha": float(number)})
            seconds = draw.uniform(0.5, 12)
            whole = bool(number % 2)
            last = kill_repro(project, seconds, whole=whole)
            torn += repro(project)
            check(project)
            project.commit(f"{number}")
            what = "DVC and its stage" if whole else "the stage"
            print(f"crash: {number:2d}/{arguments.kills} {what} killed after {seconds:4.1f} s, at: {last}", flush=True)
    print(f"crash: {arguments.kills} kills, and each time the next `dvc repro` put all in order")
    print(f"crash: {torn} of them tore a file of DVC's own")


if __name__ == "__main__":
    main()
