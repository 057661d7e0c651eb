"""A table of one's own: its dictionary drafted, the pipeline run on it, its model served, and the way back."""

import re
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from stages import describe, predict, switch
from stages.describe import draft_table, list_changes, show_draft, show_overview
from stages.shared.cli import InputError
from stages.switch import read_commits, run_git
from stages.table.contract import read_table
from stages.table.dictionary import read_dictionary
from stages.table.drafting import widen
from stages.table.inference import complete_dictionary
from stages.table.sniffing import sniff
from tests.conftest import ROOT, copy_finished
from tests.rest import serving

RNG = np.random.default_rng(14)
WAYS = {"index": False}  # how pandas writes a table


def make_integers():
    """Whole numbers and nothing else: images of digits, and how much ink they take."""
    rows = pd.DataFrame(RNG.integers(0, 17, (300, 8)), columns=[f"pixel_{n}" for n in range(8)])
    return rows.assign(ink=rows.sum(axis=1) + RNG.integers(0, 5, 300)), "ink"


def make_flags():
    """Booleans, and a target that is zero in a third of the rows."""
    rows = pd.DataFrame({"open": RNG.random(300) < 0.7, "member": RNG.choice(["yes", "no"], 300), "n": range(300)})
    visits = np.where(rows["open"], 5 + 10 * (rows["member"] == "yes") + RNG.integers(0, 3, 300), 0)
    return rows.assign(n=RNG.integers(0, 50, 300), visits=visits), "visits"


def make_dates():
    days = pd.date_range("2021-01-01", periods=400, freq="D")
    load = 100 + days.month * 5 + 20 * (days.day_of_week < 5) + RNG.normal(0, 3, 400)
    return pd.DataFrame(
        {"day": days.strftime("%Y-%m-%d"), "wind": RNG.random(400).round(3), "load": load.round(2)}
    ), "load"


def make_missing_targets():
    rows = load_diabetes(as_frame=True).frame
    return rows.assign(target=rows["target"].mask(np.arange(len(rows)) % 20 == 3)), "target"


def make_tiny():
    columns = ["mean radius", "mean texture", "mean smoothness", "mean area"]
    return load_breast_cancer(as_frame=True).frame.head(40)[columns], "mean area"


def make_small_units():
    """The target is .0008 to .03 in its unit."""
    return load_breast_cancer(as_frame=True).frame.drop(columns="target"), "fractal dimension error"


def make_latin():
    """As a spreadsheet writes it in France."""
    rows = load_wine(as_frame=True).frame.rename(columns={"flavanoids": "flavonoïdes", "alcohol": "degré"})
    return rows.assign(cépage=rows.pop("target").map({0: "Mourvèdre", 1: "Gamay", 2: "Pinot; noir"})), "flavonoïdes"


# name → table, how it is written, R² that the best of two models reaches on the test rows
TABLES = {
    "Integers": (make_integers, {}, 0.8),
    "Flags": (make_flags, {}, 0.9),
    "Dates": (make_dates, {}, 0.6),
    "MissingTargets": (make_missing_targets, {}, 0.3),
    "Tiny": (make_tiny, {}, None),
    "SmallUnits": (make_small_units, {}, 0.5),
    "Latin": (make_latin, {"sep": ";", "decimal": ",", "encoding": "latin-1"}, 0.7),
}


@pytest.fixture(scope="module")
def project(origin, tmp_path_factory):
    """Two quick models without folds, run on the houses and committed; `make` finds its .venv."""
    project = copy_finished(origin, tmp_path_factory.mktemp("own") / "project")
    (project.root / ".venv").symlink_to(Path(sys.executable).parent.parent)
    (project.root / ".git/info/exclude").write_text("/.venv\n")
    project.run("make", "--touch", ".venv/ready")
    return project


def call(monkeypatch, module, *words):
    """Run a command here, which spares the start of a process."""
    monkeypatch.setattr(sys, "argv", [module.__name__, *words])
    module.main()


def read_registry(project):
    """{(registered model, version): stage}"""
    mlflow.set_tracking_uri(project.store)
    return {(version.name, int(version.version)): version.current_stage for version in mlflow.search_model_versions()}


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
def test_a_table_goes_from_its_file_to_rest_in_two_commands(project, tmp_path, monkeypatch, capsys, name):
    make, ways, floor = TABLES[name]
    table, target = make()
    path, output = tmp_path / "table.csv", tmp_path / "predicted.csv"
    table.to_csv(path, **WAYS, **ways)
    before = read_registry(project)

    monkeypatch.chdir(project.root)
    call(monkeypatch, switch, name, "--table", str(path), "--target", target, "--force")
    assert capsys.readouterr().out.endswith("Next: make repro\n")
    by_dvc = name == "Latin"  # what DVC and make do is the same for every table
    printed = project.run("dvc", "repro").stdout if by_dvc else project.run_stages("ridge", "decision_tree")
    assert f"{name}: version 1 → Production" in printed
    project.commit(name)
    assert read_registry(project) == before | {(name, 1): "Production"}
    runs = mlflow.search_runs(experiment_names=[name], output_format="list")
    assert {run.info.run_name for run in runs} == {"Ridge Regression", "Decision Tree", "Blend"}
    assert floor is None or max(run.data.metrics["test_r2"] for run in runs) > floor

    call(monkeypatch, predict, str(path), "--output", str(output))
    predicted = pd.read_csv(output)[target]
    assert len(predicted) == len(table)
    known = table[target].notna()
    assert np.corrcoef(predicted[known], table.loc[known, target])[0, 1] > 0.5

    pipeline = mlflow.sklearn.load_model(f"models:/{name}/Production")
    with serving(pipeline) as (session, address):
        answer = session.post(f"{address}/invocations", path.read_bytes(), headers={"Content-Type": "text/csv"})
        assert answer.json()["predictions"] == pytest.approx(predicted.tolist(), rel=1e-3)
        records = table.drop(columns=target).head(2).to_json(orient="records")
        answer = session.post(f"{address}/invocations", json={"dataframe_records": yaml.safe_load(records)})
        assert answer.json()["predictions"] == pytest.approx(predicted.head(2).tolist(), rel=1e-3)


@pytest.mark.slow
def test_the_houses_come_back_untouched_and_nothing_is_trained_again(project, tmp_path):
    make_tiny()[0].to_csv(tmp_path / "table.csv", **WAYS)
    registry, comments = read_registry(project), (project.root / "params.yaml").read_text().count("#")
    project.run("make", "new", f"TABLE={tmp_path / 'table.csv'}", "TARGET=mean area", "NAME=Passing", "FORCE=1")
    assert not (project.root / "models").exists()
    assert (project.root / "params.yaml").read_text().count("#") == comments
    project.run("make", "houses", "FORCE=1")
    printed = project.run("dvc", "repro").stdout
    assert "Running stage 'train" not in printed
    assert "Production stays version 1" in printed
    assert read_registry(project) == registry
    params = yaml.safe_load((project.root / "params.yaml").read_text())
    assert params["data"]["path"] == "data/raw/train.csv"
    assert params["register"]["min_test_r2"] == 0.5


@pytest.mark.slow
def test_results_that_git_does_not_have_are_not_dropped_unasked(project, tmp_path):
    make_tiny()[0].to_csv(tmp_path / "table.csv", **WAYS)
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "what the tests before left", check=False)
    path = project.root / "metrics/ridge.json"
    path.write_text(path.read_text() + "\n")
    kept = project.run("git", "status", "--porcelain").stdout
    another = ["Another", "--table", str(tmp_path / "table.csv"), "--target", "mean area"]
    for words in (another, ["HousePricesPredictor"]):
        done = project.stage("switch", *words, check=False)
        assert done.returncode == 1
        assert re.fullmatch(r"error: .*metrics/ridge\.json.*--force.*\n", done.stderr)
    assert project.run("git", "status", "--porcelain").stdout == kept
    project.run("git", "checkout", "--quiet", "metrics")


@pytest.fixture
def kept(project, tmp_path):
    """Another table, committed after the houses; the words that would start it again under some name."""
    make_tiny()[0].to_csv(tmp_path / "table.csv", **WAYS)
    words = ["--table", str(tmp_path / "table.csv"), "--target", "mean area", "--force"]
    project.stage("switch", "Kept", *words)
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--allow-empty", "--message", "another table")
    return words


@pytest.mark.slow
def test_a_new_table_cannot_take_the_name_of_another_that_git_knows(project, kept):
    done = project.stage("switch", "HousePricesPredictor", *kept, check=False)
    assert done.returncode == 1
    assert "HousePricesPredictor is the model of data/raw/train.csv; choose another name" in done.stderr
    assert project.run("git", "status", "--porcelain").stdout == ""


@pytest.mark.slow
@pytest.mark.usefixtures("kept")
def test_what_git_brought_back_may_go_again(project):
    """Files of another commit differ from the last one, and are not lost."""
    project.stage("switch", "HousePricesPredictor")
    assert "dvc.lock" in project.run("git", "status", "--porcelain").stdout
    project.stage("switch", "Kept")
    assert not (project.root / "dvc.lock").exists()


def make_repository(folder, monkeypatch, *contents):
    """A repository of a params.yaml with a commit for each content, in a folder to be in; None is one without it."""
    monkeypatch.chdir(folder)
    for words in (["init", "--quiet"], ["config", "user.name", "Test"], ["config", "user.email", "test@example.com"]):
        run_git(*words)
    for content in contents:
        Path("params.yaml").unlink(missing_ok=True)
        if content is not None:
            Path("params.yaml").write_text(content)
        run_git("add", "--all")
        run_git("commit", "--quiet", "--allow-empty", "--message", "change")


PARAMS = (ROOT / "params.yaml").read_text()


@pytest.mark.parametrize("folder", ["models", "scores/tables", "plots", "metrics", "data/prepared"])
def test_a_table_among_results_is_not_taken_away_with_them(tmp_path, monkeypatch, folder):
    make_repository(tmp_path, monkeypatch, PARAMS)
    Path(folder).mkdir(parents=True)
    table = write(tmp_path / folder / "apples.csv", make_tiny()[0])
    with pytest.raises(InputError, match="is emptied for the new table; move the file out of it first"):
        call(monkeypatch, switch, "Apples", "--table", table, "--target", "mean area")
    assert Path(table).exists()


def test_commits_of_another_time_are_passed_over(tmp_path, monkeypatch):
    make_repository(tmp_path, monkeypatch, "a: 1\n", "", "a: [\n", None, PARAMS)
    assert [content["data"]["path"] for _, content in read_commits("params.yaml")] == ["data/raw/train.csv"]
    with pytest.raises(InputError, match="no commit has a table whose registered_model is Apples"):
        call(monkeypatch, switch, "Apples")


def test_a_section_that_is_missing_is_told_before_anything_goes(tmp_path, monkeypatch):
    content = yaml.safe_load(PARAMS)
    del content["register"]
    make_repository(tmp_path, monkeypatch, yaml.safe_dump(content))
    Path("models").mkdir()
    table = write(tmp_path / "apples.csv", make_tiny()[0])
    with pytest.raises(InputError, match="section `register` is missing"):
        call(monkeypatch, switch, "Apples", "--table", table, "--target", "mean area")
    assert Path("models").exists()


def write(path, frame, **ways):
    frame.to_csv(path, **WAYS, **ways)
    return str(path)


def draft(path, target, **options):
    """A draft as a person has it on the disk: its dictionary, its text, and what was printed."""
    drafted = draft_table(path, target, **options)
    file = Path(path).with_suffix(".yaml")
    file.write_text(show_draft(drafted, path), encoding="utf-8")
    return read_dictionary(str(file)), file.read_text(encoding="utf-8"), show_overview(drafted, path)


AWKWARD = [
    "a: b",
    "no",
    "1e5",
    "it's",
    'say "so"',
    " spaced ",
    "größe",
    "温度",
    "#1",
    "- x",
    "{x}",
    "null",
    "y",
    "a\\b",
    "~",
]


def test_a_draft_is_accepted_as_it_stands_whatever_columns_and_levels_are_called(tmp_path):
    rows = pd.DataFrame({name: RNG.random(60) for name in AWKWARD})
    rows = rows.assign(level=[AWKWARD[n % len(AWKWARD)] for n in range(60)], cost=RNG.random(60) * 1e-5)
    path = write(tmp_path / "table.csv", rows)
    dictionary, *_ = draft(path, "cost")
    assert [*dictionary["columns"]] == [*rows]
    assert set(dictionary["columns"]["level"]["levels"]) == set(AWKWARD)
    table = read_table(path, complete_dictionary(path, dictionary), log_target=True)
    assert [*table] == [*rows]


@pytest.mark.parametrize("name", TABLES)
def test_a_draft_says_what_prepare_would_have_found_out(tmp_path, name):
    make, ways, _ = TABLES[name]
    table, target = make()
    path = write(tmp_path / "table.csv", table, **ways)
    drafted, *_ = draft(path, target)
    known = {key: drafted[key] for key in drafted if key not in ("columns", "id")}
    found = complete_dictionary(path, known | {"columns": {}})
    assert {n: c["type"] for n, c in drafted["columns"].items()} == {n: c["type"] for n, c in found["columns"].items()}
    assert [*list_changes(path, drafted)] == []


def make_findings():
    """One column for each thing that is wrong with a table."""
    n = 400
    price = RNG.gamma(3, 10, n) + 1
    rows = pd.DataFrame(
        {
            "Unnamed: 0": range(n),
            "order_id": RNG.permutation(np.arange(5000, 5000 + n)),
            "net": price * 0.9 + RNG.normal(0, 0.5, n),
            "band": pd.cut(price, 40).codes,
            "shop": "Lyon",
            "zip": RNG.choice([69001, 69002, 75011], n),
            "sold": pd.date_range("2024-01-01", periods=n).strftime("%Y-%m-%d"),
            "weight": [*RNG.random(n - 4).round(3), "?", "?", "n/a", "heavy"],
            "empty": None,
            "remark": [f"remark {k} of a person" for k in range(n)],
            "size": RNG.random(n),
            "price": np.where(np.arange(n) % 100 == 7, np.nan, price),
        }
    )
    return pd.concat([rows, rows.iloc[:0]]), "price"


def test_leaks_and_all_that_looks_wrong_is_flagged(tmp_path):
    table, target = make_findings()
    dictionary, text, printed = draft(write(tmp_path / "table.csv", table), target)
    for said in (text, printed):
        assert "net alone explains" in said
        assert "band alone explains" in said
        assert "size alone" not in said
        assert "price is missing in 4 row(s)" in said
        assert re.search(r"weight: 4 value\(s\) are no number and count as missing", said)
        assert "zip: codes?" in said
        assert "sold holds dates" in said
    assert dictionary["id"] == "order_id"
    left_out = {name for name, c in dictionary["columns"].items() if not c["feature"] or c["type"] == "text"}
    assert left_out == {"Unnamed: 0", "shop", "empty", "remark"}
    assert "left out: holds Lyon in every row" in text
    assert "left out: counts the rows" in text
    assert "1 % missing" in text


def test_what_pandas_writes_before_the_rows_and_what_begins_with_zero_are_no_numbers_to_learn_from(tmp_path):
    rows = pd.DataFrame({"zone": [f"{n % 7:03}" for n in range(60)], "size": RNG.random(60), "rank": range(1, 61)})
    rows.to_csv(tmp_path / "table.csv")
    dictionary, _, printed = draft(str(tmp_path / "table.csv"), "rank")
    types = {name: c["type"] for name, c in dictionary["columns"].items() if c["feature"] and c["type"] != "text"}
    assert types == {"zone": "nominal", "size": "number", "rank": "number"}
    assert "rank counts the rows: is it to be learned?" in printed


def test_copies_of_rows_are_counted(tmp_path):
    table, target = make_tiny()
    *_, printed = draft(write(tmp_path / "table.csv", pd.concat([table, table.head(3)])), target)
    assert "3 row(s) are copies of others" in printed


def test_levels_beyond_fifty_are_no_contract(tmp_path):
    rows = pd.DataFrame({"few": [f"f{n % 50}" for n in range(200)], "many": [f"m{n % 51}" for n in range(200)]})
    dictionary, text, _ = draft(write(tmp_path / "table.csv", rows.assign(cost=RNG.random(200))), "cost")
    assert len(dictionary["columns"]["few"]["levels"]) == 50
    assert "levels" not in dictionary["columns"]["many"]
    assert "51 values" in text


def test_new_data_are_held_against_the_contract(tmp_path):
    rows = pd.DataFrame({"size": [1.0, 2.0, 3.0] * 10, "colour": ["red", "blue", "red"] * 10, "cost": range(1, 31)})
    path = write(tmp_path / "table.csv", rows.assign(old=RNG.random(30)))
    dictionary, *_ = draft(path, "cost")
    changed = rows.assign(new=RNG.random(30))
    changed.loc[4, ["size", "colour"]] = [99.0, "green"]
    changed["cost"] = changed["cost"].astype(object).mask(changed.index == 7, "dear")
    said = "\n".join(list_changes(write(tmp_path / "new.csv", changed), dictionary))
    assert re.search(r"^old: gone$", said, re.MULTILINE)
    assert re.search(r"^new: new, \{type: number", said, re.MULTILINE)
    assert re.search(r"^size: must be at most .*99\.0; 1 row\(s\), row 5$", said, re.MULTILINE)
    assert re.search(r"^colour: must be one of blue, red, found 'green'; 1 row\(s\), row 5$", said, re.MULTILINE)
    assert re.search(r"^cost: must be a number, found 'dear'; 1 row\(s\), row 8$", said, re.MULTILINE)


WRITTEN = {
    "as usual": ("a,b\n1.5,x\n2.5,y\n", "utf-8", {}),
    "tabs": ("a\tb\n1.5\tx, y\n2\tz\n", "utf-8", {"separator": "\t"}),
    "with a BOM": ("\ufeffa,b\n1,x\n", "utf-8", {}),
    "French": ("a;b\n1,5;é\n2,25;x\n", "cp1252", {"separator": ";", "encoding": "cp1252", "decimal": ","}),
    "German": ("a;b\n1.234,5;x\n22,5;y\n", "utf-8", {"separator": ";", "decimal": ",", "thousands": "."}),
    "thousands": ('a,b\n"1,234",x\n"22,500",y\n', "utf-8", {"thousands": ","}),
    "UTF-16": ("a,b\n1,é\n", "utf-16", {"encoding": "utf-16"}),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_how_a_file_is_written_is_sniffed(tmp_path, name):
    text, encoding, keys = WRITTEN[name]
    (tmp_path / "table.csv").write_text(text, encoding=encoding)
    assert sniff(str(tmp_path / "table.csv")) == keys


@pytest.mark.parametrize(
    ("low", "high"), [(0.0008, 0.03), (0, 1), (-5, 5), (-9, -2), (0, 0), (1e14, 9e14), (1872, 2010)]
)
def test_a_range_has_slack_and_crosses_zero_only_if_the_values_do(low, high):
    bounds = [np.inf * sign if bound is None else bound for bound, sign in zip(widen(low, high), (-1, 1), strict=True)]
    assert bounds[0] <= low
    assert bounds[1] - bounds[0] > 1.2 * (high - low)
    assert bounds[1] >= high
    assert bounds[0] >= 0 or low < 0
    assert bounds[1] <= 0 or high >= 0


BAD = {
    "no file": (["nowhere.csv", "--target", "x"], "nowhere.csv: no such file"),
    "no target": (["table.csv"], "--target: which column"),
    "unknown target": (["table.csv", "--target", "x"], "--target x: no column of table.csv, which has mean radius"),
    "the target as id": (["table.csv", "--target", "one", "--id", "one"], "--id one: is the target"),
    "words for a target": (["words.csv", "--target", "name"], "must be a column of numbers; found 'anna'"),
    "the same everywhere": (["table.csv", "--target", "one"], "--target one: holds 1 in every row of table.csv"),
    "dictionary exists": (["drafted.csv", "--target", "mean area"], "drafted.yaml: exists already; --update"),
    "nothing to update": (["table.csv", "--update"], "table.yaml: no such file"),
    "no name": (["", "--target", "one"], ": not a regular file"),
    "a folder": ([".", "--target", "one"], ".: not a regular file"),
    "no folder": (["table.csv", "--target", "one", "--output", "/dev/null/x.yaml"], "--output /dev/null/x.yaml: "),
    "a name too long": (["table.csv", "--target", "one", "--output", "x" * 300 + ".yaml"], "File name too long"),
    "a folder to write": (["table.csv", "--target", "one", "--output", "f.yaml", "--force"], "f.yaml: must be a file"),
}


@pytest.mark.parametrize("fault", BAD)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, monkeypatch, capsys, fault):
    words, message = BAD[fault]
    table = make_tiny()[0].assign(one=1)
    for name in ("table.csv", "drafted.csv"):
        write(tmp_path / name, table)
    (tmp_path / "words.csv").write_text("name,n\nanna,1\nben,2\n")
    (tmp_path / "drafted.yaml").write_text("target: bmi # mine\n")
    (tmp_path / "f.yaml").mkdir()
    monkeypatch.chdir(tmp_path)
    kept = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(InputError) as error:
        call(monkeypatch, describe, *words)
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == kept


def test_force_drafts_again_and_update_only_speaks(tmp_path, monkeypatch, capsys):
    write(tmp_path / "table.csv", make_tiny()[0])
    (tmp_path / "table.yaml").write_text("target: bmi # mine\n")
    monkeypatch.chdir(tmp_path)
    call(monkeypatch, describe, "table.csv", "--update")
    assert (tmp_path / "table.yaml").read_text() == "target: bmi # mine\n"
    call(monkeypatch, describe, "table.csv", "--target", "mean area", "--force")
    assert read_dictionary("table.yaml")["target"] == "mean area"
    assert "Next: make new TABLE=table.csv DICTIONARY=table.yaml NAME=Table" in capsys.readouterr().out
