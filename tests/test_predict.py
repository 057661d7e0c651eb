"""Batch scoring: a file of houses in, prices out, whole or not at all."""

import os
import subprocess
import sys
from copy import copy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from stages.predict import find_paths, predict_file
from stages.registry.loading import open_model
from stages.shared.cli import InputError
from stages.table.encoder import Encoder
from stages.table.ids import SeenIds
from tests.conftest import ROOT

pytestmark = pytest.mark.slow
TEST = ROOT / "data/raw/test.csv"


@pytest.fixture(scope="module")
def raw():
    """test.csv as it stands, all text."""
    return pd.read_csv(TEST, dtype=str, keep_default_na=False)


@pytest.fixture(scope="module")
def expected(finished_project):
    """The prices of test.csv by MLflow in a process of its own, by Id."""
    code = (
        "import mlflow, pandas as pd\n"
        "model = mlflow.sklearn.load_model('models:/HousePricesPredictor/Production')\n"
        "rows = pd.read_csv('data/raw/test.csv')\n"
        "pd.Series(model.predict(rows), rows['Id'], name='SalePrice').round(2).to_csv('expected.csv')"
    )
    finished_project.env["MLFLOW_TRACKING_URI"] = finished_project.store
    finished_project.run(sys.executable, "-c", code)
    del finished_project.env["MLFLOW_TRACKING_URI"]
    return pd.read_csv(finished_project.root / "expected.csv", index_col="Id")["SalePrice"]


@pytest.fixture(scope="module")
def ridge(finished_project):
    return open_model(str(finished_project.root / "models/champion"), trust=True)


@pytest.fixture
def predict(ridge, tmp_path):
    """Prices a table of text from a file in tmp_path, in prices.csv beside it."""

    def run(table, pipeline=ridge, skip_bad=False, name="houses.csv", output="prices.csv"):
        source = tmp_path / name
        if name.endswith(".parquet"):
            table.to_parquet(source)
        else:
            table.to_csv(source, index=False)
        return predict_file(pipeline, str(source), str(tmp_path / output), skip_bad=skip_bad)

    return run


@pytest.fixture
def at_home(finished_project, monkeypatch):
    """This process in the finished project, with its store."""
    monkeypatch.chdir(finished_project.root)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", finished_project.store)


def read_prices(path):
    return pd.read_csv(path, index_col="Id")["SalePrice"]


def test_test_csv_gives_kaggles_form_and_no_warning(finished_project, tmp_path, expected):
    done = finished_project.stage("predict", "data/raw/test.csv", "--output", str(tmp_path / "predictions.csv"))
    assert done.stderr == ""
    assert (tmp_path / "predictions.csv").read_text().startswith("Id,SalePrice\n1461,")
    pd.testing.assert_series_equal(read_prices(tmp_path / "predictions.csv"), expected)


def test_value_outside_its_range_is_priced_and_marked(finished_project, tmp_path):
    """House 2593 of test.csv says that its garage is from the year 2207."""
    finished_project.stage("predict", "data/raw/test.csv", "--output", str(tmp_path / "p.csv"))
    marks = pd.read_csv(tmp_path / "p.marks.csv")
    assert marks.to_dict("records") == [
        {"Id": 2593, "column": "GarageYrBlt", "value": 2207.0, "rule": "must be at most 2030"}
    ]
    assert 2593 in read_prices(tmp_path / "p.csv").index
    assert not (tmp_path / "p.rejects.csv").exists()


def test_unknown_level_is_marked_and_marks_of_an_earlier_run_are_named_not_removed(predict, raw, tmp_path):
    rows = raw.head(3).assign(Neighborhood=["Mars", "NAmes", "NAmes"], MoSold=["5", "13", "5"])
    predict(rows)
    marks = pd.read_csv(tmp_path / "prices.marks.csv")
    assert marks[["Id", "column", "value"]].to_numpy().tolist() == [
        [1461, "Neighborhood", "Mars"],
        [1462, "MoSold", "13.0"],
    ]
    predict(raw.head(3), output="others.csv")
    assert not (tmp_path / "others.marks.csv").exists()
    assert "is of an earlier run" in predict(raw.head(3))
    assert (tmp_path / "prices.marks.csv").exists()


def test_a_name_with_a_comma_is_quoted(predict, ridge, raw, tmp_path):
    encoder = copy(ridge["encoder"])
    encoder.dictionary = {**encoder.dictionary, "target": 'price, "net"'}
    predict(raw.head(3), Pipeline([("encoder", encoder), ("estimator", ridge["estimator"])]))
    assert list(pd.read_csv(tmp_path / "prices.csv").columns) == ["Id", 'price, "net"']


def test_parquet_in_and_out_gives_the_same_prices(predict, tmp_path, expected):
    predict(pd.read_csv(TEST), name="houses.parquet", output="prices.parquet")
    prices = pd.read_parquet(tmp_path / "prices.parquet").set_index("Id")["SalePrice"]
    pd.testing.assert_series_equal(prices, expected)


@pytest.mark.parametrize("model", ["@champion", "1", "models:/HousePricesPredictor/Production", "models/champion"])
def test_every_name_of_the_champion_gives_its_prices(predict, at_home, expected, tmp_path, model):
    predict(pd.read_csv(TEST), open_model(model))
    pd.testing.assert_series_equal(read_prices(tmp_path / "prices.csv"), expected)


def test_another_model_gives_other_prices(predict, at_home, raw, expected, tmp_path):
    predict(raw, open_model("models/decision_tree"))
    assert (read_prices(tmp_path / "prices.csv") != expected).mean() > 0.9


@pytest.mark.parametrize("model", ["99", "@nobody", "models:/Nothing/1", "models/nothing"])
def test_a_model_that_is_none_is_one_line(at_home, model):
    with pytest.raises(InputError) as error:
        open_model(model)
    assert len(str(error.value).splitlines()) == 1
    assert model in str(error.value)


def spoil(raw):
    """Six faults in five of eight houses: 1461, 1462 (two), 1463, 1465, and 1466, which is there twice."""
    rows = raw.head(8).copy()
    rows.loc[0, "LotArea"] = "big"
    rows.loc[1, ["GrLivArea", "YearBuilt"]] = ["inf", "old"]
    rows.loc[2, "Id"] = ""
    rows.loc[4, "LotFrontage"] = "nan"
    rows.loc[6, "Id"] = "1466"
    return rows


def test_all_faults_are_listed_with_ids_and_nothing_is_written(finished_project, raw, tmp_path):
    source, output = tmp_path / "houses.csv", tmp_path / "prices.csv"
    spoil(raw).to_csv(source, index=False)
    done = finished_project.stage("predict", str(source), "--output", str(output), check=False)
    assert done.returncode == 1
    for line in (
        "LotArea: must be a number, found 'big'; 1 row(s), id 1461",
        "YearBuilt: must be a number, found 'old'; 1 row(s), id 1462",
        "GrLivArea: must be finite and at most 1e+15 in size, found inf; 1 row(s), id 1462",
        "LotFrontage: must be a number, found 'nan'; 1 row(s), id 1465",
        "Id: must not be missing; 1 row(s), id (row 3)",
        "Id: must be unique, found 1466.0; 1 row(s), id 1466",
    ):
        assert line in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["houses.csv"]


def test_skip_bad_prices_the_good_rows_and_keeps_the_others_as_they_came(predict, raw, expected, tmp_path):
    rows = spoil(raw)
    predict(rows, skip_bad=True)
    prices = read_prices(tmp_path / "prices.csv")
    assert prices.index.tolist() == [1464, 1466, 1468]
    pd.testing.assert_series_equal(prices, expected[prices.index])
    rejects = pd.read_csv(tmp_path / "prices.rejects.csv", dtype=str, keep_default_na=False)
    assert rejects["Id"].tolist() == ["1461", "1462", "", "1465", "1466"]
    assert rejects["LotArea"].tolist()[0] == "big"
    assert rejects["fault"].tolist()[0] == "LotArea must be a number"


@pytest.mark.parametrize("letters", [190, 215])
def test_a_long_name_is_good_for_all_that_is_written(predict, raw, tmp_path, letters):
    predict(spoil(raw).assign(MoSold="13"), skip_bad=True, output=f"{'p' * letters}.csv")
    written = [path.name[letters:] for path in tmp_path.iterdir() if path.name.startswith("p")]
    assert sorted(written) == [".csv", ".marks.csv", ".rejects.csv"]


@pytest.mark.parametrize("letters", [230, 237, 244, 251])
def test_a_name_too_long_for_what_is_written_on_the_way_is_refused(predict, raw, tmp_path, letters):
    with pytest.raises(InputError, match="File name too long"):
        predict(raw.head(3), output=f"{'p' * letters}.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["houses.csv"]


def test_skip_bad_on_the_command_line(finished_project, raw, tmp_path):
    source, output = tmp_path / "houses.csv", tmp_path / "prices.csv"
    spoil(raw).to_csv(source, index=False)
    done = finished_project.stage("predict", str(source), "--output", str(output), "--skip-bad")
    assert len(read_prices(output)) == 3
    assert "5 row(s) left out" in done.stdout


def test_lines_of_the_wrong_length_are_a_fault(ridge, raw, tmp_path):
    source, output = tmp_path / "houses.csv", tmp_path / "prices.csv"
    source.write_text(raw.head(3).to_csv(index=False) + "1464,60\n")
    with pytest.raises(InputError, match="2 cells in place of 80: 1464,60"):
        predict_file(ridge, str(source), str(output), skip_bad=False)
    assert not output.exists()
    predict_file(ridge, str(source), str(output), skip_bad=True)
    assert len(read_prices(output)) == 3
    assert "1464,60" in (tmp_path / "prices.rejects.csv").read_text()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("houses.csv", b"", "empty"),
        ("houses.csv", b"Id,LotArea\n1,2\n", "missing columns: MSSubClass"),
        ("houses.csv", b"\xff\xfe\x00\x01", "not UTF-8"),
        ("houses.parquet", b"PAR1 not really", "not a table in CSV or Parquet"),
        ("houses.csv", None, "no such file"),
    ],
)
def test_what_is_no_table_is_said_in_one_line(ridge, tmp_path, name, content, message):
    source = tmp_path / name
    if content is not None:
        source.write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        predict_file(ridge, str(source), str(tmp_path / "p.csv"), skip_bad=False)
    assert len(str(error.value).splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ([] if content is None else [name])


def test_a_header_without_rows_is_refused(predict, raw):
    with pytest.raises(InputError, match="a header and no rows"):
        predict(raw.head(0))


def test_faults_leave_an_earlier_output_alone(predict, raw, tmp_path):
    (tmp_path / "prices.csv").write_text("before")
    with pytest.raises(InputError, match="nothing written"):
        predict(spoil(raw))
    assert (tmp_path / "prices.csv").read_text() == "before"


def test_correcting_a_rejects_file_never_removes_it(predict, raw, tmp_path):
    """The natural next step: the side files of an output are never the input."""
    predict(spoil(raw), skip_bad=True)
    for source, output in (("prices.rejects.csv", "prices.csv"), ("prices.csv", "prices.csv")):
        before = (tmp_path / source).read_bytes()
        with pytest.raises(InputError, match="would take the place of the input"):
            find_paths(str(tmp_path / source), str(tmp_path / output))
        assert (tmp_path / source).read_bytes() == before


def test_what_a_spreadsheet_would_run_is_escaped(predict, raw, tmp_path):
    predict(raw.head(2).assign(Neighborhood=["=HYPERLINK(1)", "NAmes"]))
    assert pd.read_csv(tmp_path / "prices.marks.csv")["value"].tolist() == ["'=HYPERLINK(1)"]


def test_model_file_that_dvc_lock_does_not_know_is_not_opened(at_home, tmp_path):
    strange = tmp_path / "ridge"
    strange.write_bytes((Path("models/ridge")).read_bytes() + b" ")
    with pytest.raises(InputError, match="--trust"):
        open_model(str(strange))
    assert open_model(str(strange), trust=True)["encoder"]


@pytest.mark.parametrize("output", ["p.txt", "p", "houses.csv"])
def test_output_must_be_another_csv_or_parquet(tmp_path, output):
    (tmp_path / "houses.csv").touch()
    with pytest.raises(InputError, match="--output"):
        find_paths(str(tmp_path / "houses.csv"), str(tmp_path / output))


def test_a_command_that_is_killed_half_way_leaves_no_output(finished_project, raw, tmp_path):
    source, output = tmp_path / "houses.csv", tmp_path / "prices.csv"
    many = pd.concat([raw.assign(Id=raw["Id"].astype(int) + 10_000 * n) for n in range(60)])
    many.to_csv(source, index=False)
    command = [sys.executable, "-m", "stages.predict", str(source), "--output", str(output)]
    process = subprocess.Popen(command, cwd=finished_project.root, env=finished_project.env)
    while process.poll() is None and not any(p.name.startswith(".part-") for p in tmp_path.iterdir()):
        os.sched_yield()
    process.kill()
    process.wait()
    assert not output.exists()


def test_seen_ids_agree_with_a_set():
    rng, seen, known = np.random.default_rng(0), SeenIds(), set()
    for _ in range(200):
        ids = rng.integers(0, 3000, size=17)
        expected = []
        for value in ids.tolist():
            expected.append(value not in known)
            known.add(value)
        assert seen.find_new(ids).tolist() == expected
    assert sum(map(len, seen.runs)) == len(known)


def test_memory_does_not_grow_with_the_file(finished_project, raw, tmp_path):
    """Peak memory of 150,000 rows over that of 30,000: less than half a kilobyte for each row more."""
    peaks, output = {}, tmp_path / "p.csv"
    for copies in (20, 100):
        source = tmp_path / f"{copies}.csv"
        for n in range(copies):
            ids = raw["Id"].astype(int) + 10_000 * n
            raw.assign(Id=ids).to_csv(source, mode="a", header=n == 0, index=False)
        code = (
            "import resource\nfrom stages.predict import predict_file\nfrom stages.registry.loading import open_model\n"
            f"predict_file(open_model('models/ridge'), {str(source)!r}, {str(output)!r}, skip_bad=False)\n"
            "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
        )
        peaks[copies] = int(finished_project.run(sys.executable, "-c", code).stdout.split()[-1]) * 1024
    assert (peaks[100] - peaks[20]) / (80 * len(raw)) < 500


def test_names_that_the_files_beside_have_too_lose_nothing(tmp_path):
    """An id called as a column of the marks, a feature as that of the rejects, a target as the number of a row."""
    columns = {name: {"type": "number"} for name in ("value", "row", "self")}
    columns |= {"fault": {"type": "number", "range": [0, 9], "missing": ["-"]}}
    rows = pd.DataFrame({"value": [501.0, 502, 503, 504], "fault": [1.0, 2, 4, 3], "self": [1.0, 3, 2, 5], "row": 1.0})
    learned = rows.assign(row=rows["fault"] * 2)
    for id_name in ("value", None):
        dictionary = {"target": "row", **({"id": id_name} if id_name else {}), "columns": columns}
        pipeline = Pipeline([("encoder", Encoder(dictionary)), ("regressor", LinearRegression())])
        pipeline.fit(learned, learned["row"])
        source, output = tmp_path / "rows.csv", tmp_path / "out.csv"
        pd.DataFrame({"value": [7, 8, 9], "fault": ["20", "x", "-"], "self": 1}).to_csv(source, index=False)
        predict_file(pipeline, str(source), str(output), skip_bad=True)
        marks, rejects = pd.read_csv(tmp_path / "out.marks.csv"), pd.read_csv(tmp_path / "out.rejects.csv")
        assert marks.iloc[0].tolist() == [7 if id_name else 1, "fault", 20.0, "must be at most 9"]
        assert rejects[["fault", "fault_"]].to_numpy().tolist() == [["x", "fault must be a number"]]
        found = pd.read_csv(output)
        assert found.iloc[:, 0].tolist() == ([7, 9] if id_name else [1, 3])
        assert list(found) == (["value", "row"] if id_name else ["row_", "row"])
