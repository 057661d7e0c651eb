"""The same bytes on every processor: BLAS kernels and numpy's logs differ, what a stage writes must not."""

import hashlib
import sys
from pathlib import Path

import pytest

from tests.conftest import copy_project

pytestmark = pytest.mark.slow

PROCESSORS = {
    "with AVX-512": {"OPENBLAS_CORETYPE": "SkylakeX"},
    "with AVX2": {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"},
    "with neither": {"OPENBLAS_CORETYPE": "Sandybridge", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL"},
}

NAMES = ["linear", "ridge", "lasso", "decision_tree", "xgboost"]
STAGES = """
import sys
from stages import champion
from stages.model import blending, training

names = sys.argv[2:]
for name in names:
    training.train_model(name)
blending.train_blend(*blending.choose_members(names))
champion.main()
"""


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The md5 of each file that the stages write, on each kind of processor."""
    project = copy_project(tmp_path_factory.mktemp("processors") / "project")
    project.set_params(fit={"cv_folds": 2}, xgboost={"n_estimators": 50})
    project.stage("prepare")
    hashes, usual = {}, project.env
    for processor, forced in PROCESSORS.items():
        project.env = {**usual, **forced}
        project.run(sys.executable, "-c", STAGES, "--models", *NAMES)
        hashes[processor] = hash_outputs(project.root)
    return hashes


def hash_outputs(root):
    files = [path for folder in ("models", "scores", "metrics", "plots") for path in (root / folder).rglob("*")]
    return {str(f.relative_to(root)): hashlib.md5(f.read_bytes()).hexdigest() for f in files if f.is_file()}


@pytest.mark.parametrize("name", [*NAMES, "blend", "champion"])
def test_a_stage_writes_the_same_bytes_on_every_processor(written, name):
    first, *others = (
        {path: md5 for path, md5 in hashes.items() if name in Path(path).parts or Path(path).stem == name}
        for hashes in written.values()
    )
    assert {f"models/{name}", f"metrics/{name}.json"} <= set(first)
    assert all(other == first for other in others)


def test_plots_and_tables_have_the_same_bytes_on_every_processor(written):
    first, *others = written.values()
    assert {"plots/rmse.csv", "scores/models/xgboost/out_of_fold.csv"} <= set(first)
    assert all(other == first for other in others)
