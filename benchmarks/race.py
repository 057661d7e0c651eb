"""Clones that share nothing but a server register and roll back at the same time; check what comes of it.

    python -m benchmarks.race --store http://localhost:5000 --rounds 50

In each round four processes start at once, each in a clone of its own: two have the same new result, one has another,
and one rolls back; whatever is registered is promoted (`register.promote: always`). In every third round one of them is
killed on the way, and another clone's register follows. After each round exactly one version may be in Production, with
the alias `champion`, no two versions may serve the same bytes, and the history must name every promotion that a process
reported, and end with the version that serves. Ends with 1 at the first thing that is not so.
"""

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

import joblib
import mlflow

from stages.registry import versions as registry
from stages.shared.cli import InputError
from stages.shared.files import model_file
from tests.conftest import Project, make_small

CLONES = 4


def register_result(name: str) -> None:
    """Register a champion of other bytes for each name, and the same for the same name."""
    from stages.register import list_inputs, register

    pipeline = joblib.load("champion.joblib")
    pipeline["estimator"].race_ = name
    joblib.dump(pipeline, model_file("champion"))
    register(list_inputs())


def work() -> None:
    """One clone: does what each line of its input says, and answers with one line."""
    from stages.history import roll_back
    from stages.tracking.connection import connect

    connect()
    answers, sys.stdout = sys.stdout, sys.stderr
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        try:
            if line.strip() == "rollback":
                roll_back(None)
            else:
                register_result(line.strip())
            said = "done"
        except InputError as error:
            said = f"error: {error}".partition("\n")[0]
        print(said, file=answers, flush=True)


class Clone:
    """A process in a clone, which waits for work."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.start()

    def start(self) -> None:
        root, pipe = self.project.root, subprocess.PIPE
        log = (root / "race.log").open("a")
        command = [sys.executable, "-m", "benchmarks.race", "--work"]
        self.process = subprocess.Popen(
            command, cwd=root, env=self.project.env, stdin=pipe, stdout=pipe, stderr=log, text=True
        )
        assert self.hear() == "ready", (root / "race.log").read_text()

    def tell(self, line: str) -> None:
        print(line, file=self.process.stdin, flush=True)

    def hear(self) -> str:
        assert self.process.stdout
        return self.process.stdout.readline().strip()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def list_promotions() -> list[tuple[str, int]]:
    """(time, version), oldest first."""
    return sorted(
        (tag, int(version.version))
        for version in registry.list_versions()
        for tag in version.tags
        if tag.startswith(registry.PROMOTED)
    )


def check() -> None:
    """Raises AssertionError unless the registry is as it must be after everybody has finished."""
    versions = registry.list_versions()
    serving = [int(version.version) for version in versions if version.current_stage == registry.PRODUCTION]
    assert len(serving) == 1, f"in Production: {serving}"
    assert registry.read_aliases()[registry.CHAMPION_ALIAS] == str(serving[0]), registry.read_aliases()
    md5s = [version.tags[registry.SERVED] for version in versions]
    assert len(md5s) == len(set(md5s)), f"{len(md5s)} versions of {len(set(md5s))} results"
    assert list_promotions()[-1][1] == serving[0], (list_promotions()[-3:], serving)


def make_finished(folder: Path) -> Project:
    """A small project that has run."""
    project = make_small(folder / "finished")
    project.run("dvc", "repro")
    return project


def make_clones(finished: Project, folder: Path, store: str, environment: dict[str, str]) -> list[Clone]:
    for number in range(CLONES):
        root = folder / f"clone{number}"
        shutil.copytree(finished.root, root, ignore=shutil.ignore_patterns("mlflow.db*", "mlruns"))
        shutil.copy(root / model_file("champion"), root / "champion.joblib")
        Project(root).set_params(register={"promote": "always"})
    projects = [Project(folder / f"clone{number}", store) for number in range(CLONES)]
    for project in projects:
        project.env |= environment
    return [Clone(project) for project in projects]


def race(store: str, rounds: int, finished: Project, environment: dict[str, str] | None = None) -> int:
    """The number of promotions in as many rounds. Raises AssertionError at the first violation."""
    draw = random.Random(0)  # noqa: S311
    with tempfile.TemporaryDirectory() as folder:
        clones = make_clones(finished, Path(folder), store, environment or {})
        mlflow.set_tracking_uri(store)
        try:
            unknown = time.time_ns()
            for first in (f"{unknown}a", f"{unknown}b"):
                clones[0].tell(first)
                assert clones[0].hear() == "done"
            for number in range(1, rounds + 1):
                play(clones, number, f"{unknown + number}a", f"{unknown + number}b", draw)
                check()
                print(f"race: {number}/{rounds}, {len(list_promotions())} promotions", flush=True)
        finally:
            for clone in clones:
                clone.kill()
    return len(list_promotions())


def play(clones: list[Clone], number: int, new: str, other: str, draw: random.Random) -> None:
    """One round, with two unknown results. Raises AssertionError if the history lacks a promotion."""
    before = len(list_promotions())
    order = draw.sample(clones, CLONES)
    for clone, line in zip(order, (new, new, other, "rollback"), strict=True):
        clone.tell(line)
    if number % 3 == 0:
        time.sleep(draw.uniform(0.2, 3))
        order[0].kill()
        order[0].start()
    said = [clone.hear() for clone in order[number % 3 == 0 :]]
    assert set(said) <= {"done"}, said
    if number % 3 == 0:
        order[0].tell(new)
        assert order[0].hear() == "done"
    else:  # the two results, and the way back; the same result again is promoted again if another one serves
        assert len(list_promotions()) - before in (3, 4), list_promotions()[before:]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.race", description=__doc__.splitlines()[0])
    parser.add_argument("--store", default=os.environ.get("MLFLOW_TRACKING_URI"))
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work()
        return
    login = {key: value for key, value in os.environ.items() if key.startswith("MLFLOW_TRACKING_")}
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as folder:
        promotions = race(arguments.store, arguments.rounds, make_finished(Path(folder)), login)
        print(f"race: {arguments.rounds} rounds of {CLONES} processes, {promotions} promotions, no violation")


if __name__ == "__main__":
    main()
