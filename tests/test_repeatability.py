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


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    project = copy_project(tmp_path_factory.mktemp("processors") / "project")
    project.set_params(fit={"cv_folds": 0}, xgboost={"n_estimators": 50})
    project.stage("prepare")
    return project


@pytest.mark.parametrize("name", ["linear", "ridge", "lasso", "decision_tree", "xgboost"])
def test_a_stage_writes_the_same_bytes_on_every_processor(prepared, name):
    written = {}
    usual = prepared.env
    for processor, forced in PROCESSORS.items():
        prepared.env = {**usual, **forced}
        prepared.stage("train", name)
        files = [path for path in prepared.root.rglob(f"{name}*") if path.is_file() and "mlruns" not in path.parts]
        files += (prepared.root / "plots" / name).iterdir()
        outputs = [path for path in files if path.suffix in ("", ".json", ".csv")]
        written[processor] = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in outputs}
    prepared.env = usual
    assert len(written["with AVX2"]) == 6
    assert written["with AVX-512"] == written["with AVX2"] == written["with neither"]
