"""Files that speak of each other must agree: stages, params, Makefile, README, dictionary and lock."""

import ast
import hashlib
import os
import re
import subprocess

import pytest
import yaml

from stages.model.catalogue import MODELS
from stages.table.dictionary import read_dictionary
from tests.conftest import ROOT

STAGES = sorted((ROOT / "stages").rglob("*.py"))
ROOMS = ["shared", "table", "model", "cluster", "tracking", "registry"]  # each may import those before it


@pytest.fixture(scope="module")
def pipeline():
    return yaml.safe_load((ROOT / "dvc.yaml").read_text())


def list_imports(path):
    """Modules of stages/ that a module imports, early or late, as paths."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "stages":
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            files = [ROOT / f"{name.replace('.', '/')}.py" for name in names]
            found |= {file for file in files if file.exists()}
        elif isinstance(node, ast.Constant) and str(node.value).startswith("stages."):  # imported by name, elsewhere
            found |= {file for file in find_named(str(node.value)) if file.exists()}
    return found


def find_named(dotted):
    """The module that a dotted name means, or that of the function that it means."""
    return [ROOT / f"{name.replace('.', '/')}.py" for name in (dotted, dotted.rpartition(".")[0])]


def find_imports(path):
    """A module, and all that it imports directly or not."""
    found, waiting = set(), [path]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += list_imports(path)
    return found


def test_models_are_the_same_in_code_params_and_pipeline(pipeline, params):
    names = pipeline["vars"][0]["train"]["models"]
    assert names == list(MODELS)
    assert [name for name in params if name in MODELS] == names


@pytest.mark.parametrize("stage", ["prepare", "train", "blend", "champion", "register"])
def test_stage_depends_on_every_module_that_it_imports_and_on_no_other(pipeline, stage):
    described = pipeline["stages"][stage].get("do", pipeline["stages"][stage])
    listed = [ROOT / dep for dep in described["deps"] if dep.startswith("stages")]
    needed = find_imports(ROOT / f"stages/{stage}.py") | {ROOT / "stages/__init__.py"}
    needed |= find_imports(ROOT / "stages/table/encoder.py")  # which models hold
    for path in needed:
        assert any(path == dep or dep in path.parents for dep in listed), path
    for dep in listed:
        assert any(path == dep or dep in path.parents for path in needed), dep


def test_rooms_import_only_what_lies_below_them():
    for path in STAGES:
        room = path.relative_to(ROOT / "stages").parts[0]
        for imported in list_imports(path):
            other = imported.relative_to(ROOT / "stages").parts[0]
            if room in ROOMS:
                assert other in ROOMS[: ROOMS.index(room) + 1], f"{path} imports {imported}"
            else:
                assert other in ROOMS or other in ("train.py", "blend.py", "champion.py", "serve.py", "describe.py"), (
                    f"{path} imports {imported}"
                )


def test_modules_and_functions_stay_small():
    lengths = []
    for path in STAGES:
        text = path.read_text()
        assert len(text.splitlines()) <= 270, path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lengths += [(node.end_lineno - node.lineno + 1, f"{path.name}:{node.name}")]
    assert sorted(lengths)[len(lengths) // 2][0] <= 12
    assert max(lengths)[0] <= 40, max(lengths)
    assert len((ROOT / "dvc.yaml").read_text().splitlines()) <= 155


def test_every_stage_says_what_it_does(pipeline):
    assert all(stage.get("do", stage)["desc"] for stage in pipeline["stages"].values())


def test_no_module_names_a_column_of_the_houses():
    columns = set(read_dictionary(str(ROOT / "data/dictionary.yaml"))["columns"]) - {"Id"}
    for path in STAGES:
        words = {n.value for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Constant)}
        words |= {word for text in words if isinstance(text, str) for word in re.findall(r"\w+", text)}
        assert not columns & words, path.name


def test_no_code_speaks_of_one_table():
    """What a row is and in which unit the target is measured stands in the dictionary, names in params.yaml; only the
    Makefile has a word for the way back to the table that comes with the project.
    """
    words = re.compile(
        r"\b(house|dollar|price|sale|ames)[sd]?\b|houseprice|house-price|\bkaggle\b|\d ?\$", re.IGNORECASE
    )
    files = [*STAGES, ROOT / "dvc.yaml", ROOT / "Makefile", *(ROOT / ".dvc/plots").glob("*.json")]
    back = re.compile(r"^houses:.*\n\t.*\n|(?<=new )houses ", re.MULTILINE)
    found = [(path.name, m[0]) for path in files for m in words.finditer(back.sub("", path.read_text()))]
    assert found == []


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


def test_make_sets_up_its_own_environment_whatever_other_is_active():
    """uv would take the active one, and remove from it what the lock has not."""
    command = ["make", "--silent", "--eval", "show: ; @echo $$VIRTUAL_ENV", "show"]
    env = os.environ | {"VIRTUAL_ENV": "/elsewhere"}
    shown = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    assert shown.strip() == str(ROOT / ".venv")
