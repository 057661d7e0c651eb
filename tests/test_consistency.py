"""Files that speak of each other must agree: stages, params, Makefile, README, dictionary and lock."""

import ast
import hashlib
import re
from pathlib import Path

import pytest
import yaml

from stages.contract import read_dictionary
from stages.models import MODELS
from tests.conftest import ROOT

STAGES = sorted((ROOT / "stages").glob("*.py"))


@pytest.fixture(scope="module")
def pipeline():
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def find_imports(module):
    """Modules of stages/ that a module of stages/ imports, early or late, and those that they import."""
    found, waiting = set(), [module]
    while waiting:
        tree = ast.parse((ROOT / "stages" / f"{waiting.pop()}.py").read_text())
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not node.module:
                continue
            names = [a.name for a in node.names] if node.module == "stages" else [node.module.removeprefix("stages.")]
            new = {n for n in names if (ROOT / "stages" / f"{n}.py").exists()} - found
            found |= new
            waiting += new
    return found | {module}


def test_models_are_the_same_in_code_params_and_pipeline(pipeline, params):
    names = pipeline["train"]["foreach"]
    assert names == list(MODELS)
    assert [name for name in params if name in MODELS] == names
    register = {dep for dep in pipeline["register"]["deps"] if dep.startswith("models/")}
    assert register == {f"models/{name}" for name in names}


@pytest.mark.parametrize("stage", ["prepare", "train", "register"])
def test_stage_depends_on_every_module_that_it_imports(pipeline, stage):
    described = pipeline[stage].get("do", pipeline[stage])
    listed = {Path(dep).stem for dep in described["deps"] if dep.startswith("stages/")}
    assert listed == find_imports(stage)


def test_every_stage_says_what_it_does(pipeline):
    assert all(stage.get("do", stage)["desc"] for stage in pipeline.values())


def test_no_module_names_a_column_of_the_houses():
    columns = set(read_dictionary(str(ROOT / "data/dictionary.yaml"))["columns"]) - {"Id"}
    for path in STAGES:
        words = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        words |= {word for text in words if isinstance(text, str) for word in re.findall(r"\w+", text)}
        assert not columns & words, path.name


def test_committed_data_is_what_its_readme_says():
    text = (ROOT / "data/README.md").read_text()
    for name in ("train.csv", "test.csv"):
        assert hashlib.md5((ROOT / "data/raw" / name).read_bytes()).hexdigest() in text


def test_lock_holds_no_index_address_and_a_hash_for_everything():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    pinned = re.findall(r"^[\w.-]+(?:\[\w+\])?==", lock, re.MULTILINE)
    assert len(pinned) > 50
    assert lock.count("--hash=sha256:") >= len(pinned)


def test_every_dependency_has_its_reason():
    text = (ROOT / "pyproject.toml").read_text()
    block = text.partition("dependencies = [")[2].partition("\n]")[0] + text.partition("dev = [")[2].partition("\n]")[0]
    for line in filter(str.strip, block.splitlines()):
        assert re.search(r'",\s+# \S+', line), line
