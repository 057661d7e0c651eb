"""The notebook: it runs where the pipeline has run, and what it shows in git is true and of no machine."""

import json
import re

import nbformat
import pytest

from tests.conftest import ROOT
from tests.notebook import execute

NOTEBOOK = ROOT / "notebooks/explore.ipynb"


def read_texts(cells):
    """All text that cells show."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return "\n".join(output.get("text") or output["data"]["text/plain"] for output in outputs)


def read_notebook():
    return nbformat.read(NOTEBOOK, as_version=4).cells


def list_figures(root):
    """R² on the test rows of every model that a project ranks."""
    names = json.loads((root / "metrics/champion.json").read_text())["ranking"]
    return [f"{json.loads((root / f'metrics/{name}.json').read_text())['test_r2']:.6g}" for name in names]


@pytest.mark.slow
def test_it_runs_where_the_pipeline_has_run(finished_project):
    shown = read_texts(execute(NOTEBOOK, finished_project.root).cells)
    assert [figure for figure in list_figures(finished_project.root) if figure not in shown] == []


def test_its_figures_are_those_of_the_metrics():
    shown = read_texts(read_notebook())
    assert [figure for figure in list_figures(ROOT) if figure not in shown] == []


def test_it_is_small_and_holds_no_warning_path_or_time_of_a_machine():
    assert NOTEBOOK.stat().st_size < 500_000
    for number, cell in enumerate(cell for cell in read_notebook() if "outputs" in cell):
        assert cell.execution_count == number + 1
        assert not cell.metadata
        assert all(output.get("name") != "stderr" for output in cell.outputs)
        assert not re.search(r"/(?:home|root|tmp|usr|work|Users|opt)/|\d(?:\.\d+)? ?(?:ms|it/s)\b", read_texts([cell]))
