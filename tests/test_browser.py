"""What a person sees in a browser: the nine runs, their comparison, the registered model, and DVC's plots."""

import json
import re

import pytest
from playwright.sync_api import expect

from tests.browser import CHROMIUM, open_page, serve_ui, show_plots, show_runs
from tests.test_pipeline import MISSION

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine; `apt-get install chromium` brings it"),
]


@pytest.fixture(scope="module")
def address(whole_project):
    with serve_ui(whole_project.root, whole_project.env) as address:
        yield address


@pytest.fixture
def page():
    with open_page() as page:
        yield page


def list_names(page):
    links = page.locator("a[href*='/runs/']").all_inner_texts()
    return [name for name in links if name in MISSION]


def test_the_link_that_make_ui_prints_lists_nine_runs_the_best_first(page, address, whole_project):
    show_runs(page, address)
    expect(page.get_by_text("9 matching runs")).to_be_visible()
    assert set(list_names(page)) == set(MISSION)
    scores = [json.loads(path.read_text()) for path in (whole_project.root / "metrics").glob("*.json")]
    r2 = {score["model"]: score["test_r2"] for score in scores}
    assert list_names(page) == sorted(MISSION, key=r2.__getitem__, reverse=True)


def test_ticking_all_and_compare_opens_the_charts(page, address):
    show_runs(page, address)
    page.get_by_role("checkbox").first.click(force=True)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("Comparing 9 Runs from 1 Experiment")).to_be_visible()
    expect(page.locator(".parcoords, .js-plotly-plot").first).to_be_visible()
    page.get_by_role("tab", name="Scatter Plot").click()
    for label, metric in (("X-axis", "test_rmse"), ("Y-axis", "test_r2")):
        choose(page, label, metric)
    plot = page.locator(".js-plotly-plot:visible").first
    expect(plot.locator(".xtitle")).to_have_text("test_rmse")
    expect(plot.locator(".ytitle")).to_have_text("test_r2")
    assert plot.evaluate("chart => chart.data.map(trace => trace.x.length)") == [9]


def choose(page, label, metric):
    """Pick a metric for an axis of the scatter plot."""
    axis = "x" if label.startswith("X") else "y"
    page.locator(f"#{axis}-axis-selector").click()
    page.get_by_role("option", name=metric, exact=True).first.click()


def test_chart_view_draws_bars_and_learning_curves(page, address):
    show_runs(page, address, "CHART")
    page.get_by_placeholder("Search metric charts").fill("test_rmse|learning_validation")
    expect(page.get_by_text("learning_validation_rmse").first).to_be_visible()
    expect(page.locator(".js-plotly-plot .barlayer .point").first).to_be_visible()
    expect(page.locator(".js-plotly-plot .scatterlayer .js-line").first).to_be_visible()


def test_run_has_its_picture(page, address):
    show_runs(page, address)
    page.get_by_role("link", name="XGBoost").first.click()
    page.get_by_role("tab", name="Artifacts").click()
    page.get_by_text("plots.png").first.click()
    expect(page.locator("img[src*='plots.png'], img[src^='blob:']").first).to_be_visible()


def test_registered_model_shows_production_and_its_description(page, address):
    page.goto(f"{address}/#/models/HousePricesPredictor")
    expect(page.get_by_text("champion").first).to_be_visible()
    page.goto(f"{address}/#/models/HousePricesPredictor/versions/1")
    expect(page.get_by_text("Production", exact=True).first).to_be_visible()
    expect(page.get_by_text(re.compile(r"^\w+ Regression\. Test RMSE [\d,]+ dollars"))).to_be_visible()


def test_plots_page_draws_five_charts_without_an_error(page, whole_project, tmp_path):
    whole_project.run("dvc", "plots", "show", "--out", str(tmp_path))
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    show_plots(page, tmp_path / "index.html")
    assert errors == []
    charts = page.locator(".vega-embed svg.marks")
    drawn = charts.evaluate_all(
        "charts => charts.map(chart => chart.querySelectorAll('.mark-symbol path, .mark-rect path,"
        " .mark-line path').length)"
    )
    assert len(drawn) == 5
    assert min(drawn) >= 6  # two lines for each of three boosters, and more marks elsewhere
    titles = charts.evaluate_all("charts => charts.map(chart => chart.textContent)")
    for title in ("Test RMSE with 95 % intervals", "Predicted and actual", "Residuals", "Learning curves"):
        assert any(title in text for text in titles)
    ranking = json.loads((whole_project.root / "metrics/champion.json").read_text())["ranking"]
    models = [json.loads((whole_project.root / f"metrics/{name}.json").read_text())["model"] for name in ranking]
    for text in titles[:3]:
        assert sorted(models, key=text.index) == models
    assert (tmp_path / "index.html").stat().st_size < 5_000_000
