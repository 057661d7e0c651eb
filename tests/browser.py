"""A real Chromium on the pages that a person looks at: MLflow's, and DVC's plots."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Page, Route, expect, sync_playwright

from stages.ui import link_runs
from tests.server import answers, wait_until

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
PATIENCE = 90_000  # milliseconds, for a machine that is busy with other tests


@contextmanager
def open_page(width: int = 1600, height: int = 1000) -> Iterator[Page]:
    """An empty page of a headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*QUIET, "--disable-sync"])
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(PATIENCE)
            expect.set_options(timeout=PATIENCE)
            yield page
        finally:
            browser.close()


@contextmanager
def serve_ui(root: Path, env: Mapping[str, str]) -> Iterator[str]:
    """What `make ui` starts on the store of a project, on a free port of this machine; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "stages.ui", "--port", str(port)]
    process = subprocess.Popen(
        command, cwd=root, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"), process)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def serve_scripts(route: Route) -> None:
    """The scripts of DVC's plots page, which come from a public address, from a package on this machine."""
    import vl_convert

    script = vl_convert.javascript_bundle() if "/vega-embed@" in route.request.url else ""
    route.fulfill(body=script, content_type="text/javascript; charset=utf-8")


def show_plots(page: Page, index: Path) -> None:
    """Open DVC's plots page and wait until each chart is drawn."""
    page.route("https://cdn.jsdelivr.net/**", serve_scripts)
    page.goto(index.as_uri())
    page.wait_for_function("document.querySelectorAll('.vega-embed canvas, .vega-embed svg.marks').length >= 5")


def show_runs(page: Page, address: str, view: str = "") -> None:
    """Open the experiment's runs, as a table or with view=CHART."""
    page.goto(link_runs(address, "1") + (f"&compareRunsMode={view}" if view else ""))
    page.get_by_role("link", name="Ridge Regression").first.wait_for()
