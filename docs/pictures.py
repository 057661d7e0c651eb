"""Take the README's pictures again, from this repository's own store, and run the notebook.

    python -m docs.pictures

Needs Chromium, and `dvc repro` to have run. Writes docs/images/runs.png, columns.png and plots.png, and
notebooks/explore.ipynb.
"""

import os
import subprocess
import tempfile
from pathlib import Path

import nbformat

from tests.browser import open_page, serve_ui, show_plots, show_runs
from tests.notebook import execute

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs/images"
NOTEBOOK = ROOT / "notebooks/explore.ipynb"


def picture_runs() -> None:
    """The experiment's chart view, with the test metrics of all runs."""
    with serve_ui(ROOT, os.environ) as address, open_page(1500, 860) as page:
        show_runs(page, address, "CHART")
        page.get_by_role("button", name="Close").first.click()
        page.get_by_placeholder("Search metric charts").fill("test_rmse$|test_r2$|learning_validation")
        page.locator(".js-plotly-plot .barlayer .point").first.wait_for()
        page.locator(".js-plotly-plot .scatterlayer .js-line").first.wait_for()
        page.screenshot(path=IMAGES / "runs.png")


def picture_columns() -> None:
    """The two clicks that put test metrics beside the runs."""
    with serve_ui(ROOT, os.environ) as address, open_page(1500, 640) as page:
        show_runs(page, address)
        page.get_by_role("button", name="Close").first.click()
        page.get_by_role("button", name="Columns").click()
        page.get_by_placeholder("Search columns").fill("test_")
        for name in ("test_r2", "test_rmse"):
            page.get_by_text(name, exact=True).last.click()
        page.get_by_role("columnheader", name="test_rmse").first.wait_for()
        page.screenshot(path=IMAGES / "columns.png")


def picture_plots() -> None:
    with tempfile.TemporaryDirectory() as folder, open_page(1600, 1200) as page:
        subprocess.run(["dvc", "plots", "show", "--out", folder], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        show_plots(page, Path(folder, "index.html"))
        page.screenshot(path=IMAGES / "plots.png", full_page=True, scale="css")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    picture_runs()
    picture_columns()
    picture_plots()
    nbformat.write(execute(NOTEBOOK, ROOT), NOTEBOOK)
    print("pictures: docs/images/{runs,columns,plots}.png and notebooks/explore.ipynb")


if __name__ == "__main__":
    main()
