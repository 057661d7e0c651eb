"""A few houses, and whole projects in temporary folders, with the real git, dvc and mlflow."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from filelock import FileLock
from xdist.scheduler import LoadScopeScheduling

from stages.table.contract import read_table
from stages.table.dictionary import read_dictionary
from tests.server import PATIENCE, Server

ROOT = Path(__file__).parent.parent

os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # where it is set, each stage would compile the project anew

# Files of tests that share a project which takes long to make, so that one worker runs them.
SHARING = {"test_pipeline": "whole", "test_browser": "whole", "test_requests": "whole"}

# Those that take minutes come first, so that none of them runs alone at the end.
LONG = [
    "test_docs",
    "test_promotion",
    "test_team",
    "test_crashes",
    "test_mirror",
    "whole",
    "test_cluster",
    "test_own_table",
    "test_race",
    "test_report",
    "test_serving",
    "test_bad_input",
]


def find_unit(nodeid: str) -> str:
    """What one worker runs as a whole: the tests of a file, or of all files that share a project."""
    stem = Path(nodeid.partition("::")[0]).stem
    return SHARING.get(stem, stem)


class ByProject(LoadScopeScheduling):
    """Gives each worker whole files of tests, and all files that share a project to one."""

    def _split_scope(self, nodeid: str) -> str:
        return find_unit(nodeid)


def pytest_xdist_make_scheduler(config, log):
    config.option.loadscopereorder = False  # by the number of tests, which says little of their time
    return ByProject(config, log)  # xdist's own marks for groups do nothing under pytest 9.2 (pytest-xdist #1386)


def pytest_collection_modifyitems(items):
    """The long units first, then other slow files, then what takes seconds."""
    slow = {find_unit(item.nodeid) for item in items if item.get_closest_marker("slow")}
    ranks = {unit: rank for rank, unit in enumerate(LONG)}

    def rank(item):
        unit = find_unit(item.nodeid)
        return ranks.get(unit, len(LONG) + (unit not in slow))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def dictionary():
    return read_dictionary(str(ROOT / "data/dictionary.yaml"))


@pytest.fixture(scope="session")
def houses(dictionary):
    """The real table as prepare checks it: 1460 rows, indexed by Id."""
    path = str(ROOT / "data/raw/train.csv")
    return read_table(path, dictionary)


@pytest.fixture(scope="session")
def params():
    return yaml.safe_load((ROOT / "params.yaml").read_text())


# All stages in one process, without DVC and without a start of Python for each.
STAGES = """
import sys
from stages import champion, prepare, register
from stages.model import blending, training

names, sys.argv = sys.argv[1:], ["stages"]
prepare.main()
for name in names:
    training.train_model(name)
blending.train_blend(*blending.choose_members(names))
sys.argv = ["stages", "--models", *names]
champion.main()
sys.argv = ["stages"]
register.main()
"""


class Project:
    """A clone of this repository's work tree, and what a person does in it."""

    def __init__(self, root: Path, store: str | None = None) -> None:
        self.root = root
        self.printed = ""  # by the run that a fixture made
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("DVC_", "MLFLOW_")) and k != "CI"}
        bin_folder = str(Path(sys.executable).parent)
        self.env = {**clean, "PATH": f"{bin_folder}{os.pathsep}{clean['PATH']}", "MLFLOW_DISABLE_TELEMETRY": "true"}
        self.env |= {"DVC_NO_ANALYTICS": "1"} | ({"MLFLOW_TRACKING_URI": store} if store else {})

    def run(self, *args: str, check: bool = True, timeout: float = PATIENCE) -> subprocess.CompletedProcess[str]:
        """Run a command in the project; with check, a failure shows what it printed."""
        done = subprocess.run(
            args, cwd=self.root, env=self.env, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert not check or done.returncode == 0, f"{' '.join(args)}\n{done.stdout}\n{done.stderr}"
        return done

    def stage(self, module: str, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", f"stages.{module}", *args, check=check)

    def run_stages(self, *models: str) -> str:
        """What `dvc repro` would bring about, in the time that the models take; returns what was printed."""
        return self.run(sys.executable, "-c", STAGES, *models).stdout

    def set_params(self, **changes: dict) -> None:
        """Change sections of params.yaml: set_params(data={"seed": 1})."""
        path = self.root / "params.yaml"
        content = yaml.safe_load(path.read_text())
        for section, values in changes.items():
            content[section] = {**(content.get(section) or {}), **values}
        path.write_text(yaml.safe_dump(content, sort_keys=False))

    def keep_models(self, *names: str) -> None:
        """Leave only these models in dvc.yaml, so that a test takes seconds."""
        path = self.root / "dvc.yaml"
        content = yaml.safe_load(path.read_text())
        content["vars"][0]["train"]["models"] = list(names)
        path.write_text(yaml.safe_dump(content, sort_keys=False))
        (self.root / "dvc.lock").unlink(missing_ok=True)

    def commit(self, message: str = "change") -> None:
        self.run("git", "add", "--all")
        self.run("git", "commit", "--quiet", "--message", message)

    @property
    def store(self) -> str:
        return self.env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{self.root / 'mlflow.db'}"


def copy_project(target: Path, store: str | None = None) -> Project:
    """This work tree's files, as git would clone them, in a repository of their own."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)
    project = Project(target, store)
    project.run("git", "init", "--quiet")
    project.run("git", "config", "user.name", "Test")
    project.run("git", "config", "user.email", "test@example.com")
    project.commit("copy")
    return project


@pytest.fixture
def project(tmp_path):
    """A fresh copy of the project that has run nothing yet."""
    return copy_project(tmp_path / "project")


@pytest.fixture
def small_project(project):
    """A fresh copy with two quick models and no cross-validation: a whole run takes seconds."""
    project.keep_models("ridge", "decision_tree")
    project.set_params(fit={"cv_folds": 0})
    project.commit("two models")
    return project


def clone_project(origin: Project, target: Path, store: str | None = None) -> Project:
    """A git clone of a project, as somebody else would make it: no cache, no MLflow."""
    subprocess.run(["git", "clone", "--quiet", str(origin.root), str(target)], check=True)
    clone = Project(target, store)
    clone.run("git", "config", "user.name", "Test")
    clone.run("git", "config", "user.email", "test@example.com")
    return clone


@pytest.fixture(scope="session")
def whole_project(tmp_path_factory):
    """A fresh copy after `dvc repro --force`: eight models from nothing."""
    project = copy_project(tmp_path_factory.mktemp("whole") / "project")
    done = project.run("dvc", "repro", "--force")
    project.printed = done.stdout + done.stderr
    return project


def make_small(root, store=None):
    project = copy_project(root, store)
    project.keep_models("ridge", "decision_tree")
    project.set_params(fit={"cv_folds": 0}, decision_tree={"criterion": "squared_error"}, register={"min_test_r2": 0.5})
    project.commit("two models")
    return project


@pytest.fixture(scope="session")
def origin(tmp_path_factory):
    """A small project that has run, is committed, and has pushed to a remote. All workers share it; none changes it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "origin"
    with FileLock(f"{folder}.lock"):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
            make_origin(folder)
            (folder / "done").touch()
    return Project(folder / "project")


def make_origin(folder: Path) -> None:
    project = make_small(folder / "project")
    project.run("dvc", "remote", "add", "--default", "store", str(folder / "remote"))
    project.commit("remote")
    project.run("dvc", "repro")
    project.commit("run")
    project.run("dvc", "push")


# The columns in which MLflow's database holds absolute paths.
MOVES = (
    "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)",
    "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)",
    "UPDATE logged_models SET artifact_location = replace(artifact_location, ?, ?)",
    "UPDATE model_versions SET storage_location = replace(storage_location, ?, ?)",
)


def ignore_traces(folder: str, names: list[str]) -> list[str]:
    """Bytecode beside a logged model, which comes and goes while another worker loads it."""
    return ["__pycache__"] if "mlruns" in folder and "__pycache__" in names else []


def copy_finished(finished: Project, target: Path) -> Project:
    """A project that has run, with its git, its DVC cache and its MLflow, in another folder: no stage runs for it."""
    shutil.copytree(finished.root, target, symlinks=True, ignore=ignore_traces)
    with closing(sqlite3.connect(target / "mlflow.db")) as database, database:
        for move in MOVES:
            database.execute(move, (str(finished.root), str(target)))
    return Project(target)


@pytest.fixture(scope="session")
def finished_project(origin, tmp_path_factory):
    """A project that has run, for all tests that only read it and use its Production model."""
    return copy_finished(origin, tmp_path_factory.mktemp("finished") / "project")


@pytest.fixture
def registered(origin, tmp_path):
    """A project of one's own that has run: three runs, and version 1 in Production."""
    return copy_finished(origin, tmp_path / "project")


@pytest.fixture
def clone(origin, tmp_path):
    """A clone after `dvc pull`: DVC's files, and an empty MLflow."""
    project = clone_project(origin, tmp_path / "clone")
    project.run("dvc", "pull")
    return project


@pytest.fixture
def server(tmp_path):
    """MLflow as a server, with nothing in it."""
    server = Server(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def find_runs(project, status="FINISHED"):
    mlflow.set_tracking_uri(project.store)
    return mlflow.search_runs(
        experiment_names=["House-Prices-Regression"],
        filter_string=f"attributes.status = '{status}'",
        output_format="list",
    )


def find_versions(project):
    """{version: (stage, aliases)} of the registered model."""
    mlflow.set_tracking_uri(project.store)
    found = mlflow.search_model_versions(filter_string="name = 'HousePricesPredictor'")
    aliases = mlflow.MlflowClient().get_registered_model("HousePricesPredictor").aliases if found else {}
    return {
        int(v.version): (v.current_stage, {a for a, n in aliases.items() if int(n) == int(v.version)}) for v in found
    }


def production_of(project):
    """The one version in Production, which must load and predict."""
    (number,) = [n for n, (stage, _) in find_versions(project).items() if stage == "Production"]
    model = mlflow.pyfunc.load_model("models:/HousePricesPredictor/Production")
    assert np.isfinite(model.predict(pd.read_parquet(project.root / "data/prepared/rows_test.parquet"))).all()
    return number
