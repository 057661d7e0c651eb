"""A cold run through a team's server, PostgreSQL and an S3 store, against the same run on SQLite."""

import itertools
import tempfile
from pathlib import Path

from benchmarks.measure import Line, run, take_turns
from benchmarks.pipeline import compare, empty, prepare_project
from tests.conftest import Project
from tests.team.test_team import Stack


def measure_team(repeats: int) -> list[Line]:
    """Each run has an experiment and a registered model of its own, so that the server has nothing of them."""
    with tempfile.TemporaryDirectory(dir="/tmp") as place, tempfile.TemporaryDirectory() as folder:
        Path(place).chmod(0o755)  # PostgreSQL's user may enter
        project, stack = prepare_project(Path(folder)), Stack(Path(place))
        shared, turns = Project(project.root, stack.address), itertools.count()
        stack.do("up")
        try:
            stack.ask("users/create", username="ann", password="ann-password")  # noqa: S106
            stack.log_in(shared, "ann")

            def time_cold(with_store: Project) -> float:
                empty(project)
                name = f"cold{next(turns)}"
                project.set_params(mlflow={"experiment": name, "registered_model": name})
                return run(["dvc", "repro"], project.root, with_store.env).seconds

            cold = take_turns({"SQLite": lambda: time_cold(project), "server": lambda: time_cold(shared)}, repeats)
        finally:
            stack.do("down")
    what = "`dvc repro` from nothing, through the server"
    return [compare(what, cold["server"], "SQLite", cold["SQLite"], "≤ 1.5")]
