"""The same bytes on every processor: BLAS kernels and numpy's logs differ, what a stage writes must not."""

import hashlib

import pytest

from tests.conftest import copy_project

pytestmark = pytest.mark.slow

PROCESSORS = {
    "with AVX-512": {"OPENBLAS_CORETYPE": "SkylakeX"},
    "with AVX2": {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR"},
    "with neither": {"OPENBLAS_CORETYPE": "Sandybridge", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL"},
}


NAMES = ["linear", "ridge", "lasso", "decision_tree", "xgboost"]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("processors") / "project")
    project.set_params(fit={"cv_folds": 2}, xgboost={"n_estimators": 50})
    project.stage("prepare")
    return project


def run_on_each(project, *stage):
    """What a stage writes, by file, on each kind of processor."""
    written, usual = {}, project.env
    for processor, forced in PROCESSORS.items():
        project.env = {**usual, **forced}
        project.stage(*stage)
        written[processor] = hash_outputs(project.root)
    project.env = usual
    return written


def hash_outputs(root):
    files = [path for folder in ("models", "scores", "metrics", "plots") for path in (root / folder).rglob("*")]
    return {str(f.relative_to(root)): hashlib.md5(f.read_bytes()).hexdigest() for f in files if f.is_file()}


@pytest.mark.parametrize("name", NAMES)
def test_a_model_has_the_same_bytes_on_every_processor(prepared, name):
    written = run_on_each(prepared, "train", name)
    assert {f"models/{name}", f"scores/models/{name}/out_of_fold.csv"} <= set(written["with AVX2"])
    assert written["with AVX-512"] == written["with AVX2"] == written["with neither"]


def test_blend_and_champion_have_the_same_bytes_on_every_processor(prepared):
    """After the tests above, whose models they take."""
    for stage in ("blend", "champion"):
        written = run_on_each(prepared, stage, "--models", *NAMES)
        assert f"models/{stage}" in written["with AVX2"]
        assert written["with AVX-512"] == written["with AVX2"] == written["with neither"]
