"""What counts as a missing value, and as a level, is the same behind every door."""

import datetime as dt
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import Pipeline

from stages.predict import predict_file
from stages.shared.cli import InputError
from stages.table.checks import make_rules
from stages.table.contract import read_table
from stages.table.encoder import Encoder
from stages.table.inference import complete_dictionary
from stages.table.requests import describe_body, make_body_type, read_json
from tests.rest import serving

N = 60
DICTIONARY = {
    "target": "y",
    "missing": ["-999"],
    "columns": {
        "y": {"type": "number", "feature": True},
        "size": {"type": "number", "range": [0, 100], "feature": True},
        "kind": {"type": "category", "levels": ["a", "b", "None"], "missing": ["?"], "rare": 1, "feature": True},
        "place": {"type": "category", "na_means": "absent", "rare": 1, "feature": True},
        "sold": {"type": "date", "format": "ISO8601", "feature": True},
        "zone": {"type": "nominal", "rare": 1, "feature": True},
    },
}
KNOWN = {"size": 7.0, "kind": "None", "place": "north", "sold": "2020-01-09", "zone": 3.0}
NOTHING = dict.fromkeys(KNOWN)
WORDS = {"size": -999, "kind": "?", "place": "NA", "sold": "", "zone": -999.0}  # each for a missing value
TYPES = {"size": float, "zone": float}


@pytest.fixture(scope="module")
def table():
    """Rows in which each column matters, some values are missing, and `None` is a level that is not the commonest."""
    rng = np.random.default_rng(0)
    kind, zone, place = rng.choice(["a", "a", "b", "None"], N), rng.choice([1, 1, 2, 3], N), rng.choice([*"nnsw"], N)
    size, days = rng.uniform(0, 100, N), np.arange(N) % 31
    y = size + 50 * (kind == "None") + 20 * (kind == "b") - 30 * (zone == 3) + 10 * (place == "s") + days
    return pd.DataFrame(
        {
            "size": np.where(np.arange(N) % 10 == 0, np.nan, size),
            "kind": pd.Series(kind, dtype=object).where(np.arange(N) % 11 > 0, None),
            "place": pd.Series(place, dtype=object).where(np.arange(N) % 7 > 0, None),
            "sold": [f"2020-01-{day + 1:02}" for day in days],
            "zone": zone.astype(float),
            "y": y,
        }
    )


@pytest.fixture(scope="module")
def model(table):
    pipeline = Pipeline([("encoder", Encoder(DICTIONARY)), ("regressor", LinearRegression())])
    return pipeline.fit(table, table["y"])


@pytest.fixture(scope="module")
def expected(model):
    """The predictions for a row with all values, and for one with none."""
    rows = pd.DataFrame([KNOWN, NOTHING]).astype(TYPES)
    found = model.predict(rows).tolist()
    assert abs(found[0] - found[1]) > 20
    return pytest.approx(found, rel=1e-5)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_a_table_is_learned_from_as_if_nothing_stood_there(table, tmp_path, suffix):
    plain, worded = tmp_path / f"plain.{suffix}", tmp_path / f"worded.{suffix}"
    filled = table.fillna({"size": -999.0, "kind": "?", "place": "NA"})
    for path, rows in ((plain, table), (worded, filled)):
        rows.to_csv(path, index=False) if suffix == "csv" else rows.to_parquet(path)
    read = [read_table(str(path), complete_dictionary(str(path), DICTIONARY)) for path in (plain, worded)]
    pd.testing.assert_frame_equal(*read)
    unlisted = {**DICTIONARY, "columns": {"y": DICTIONARY["columns"]["y"]}, "missing": ["-999", "?"]}
    found = [complete_dictionary(str(path), unlisted)["columns"] for path in (plain, worded)]
    assert found[0] == found[1]


def test_files_are_predicted_alike(model, expected, tmp_path):
    rows = [KNOWN, WORDS]
    (tmp_path / "rows.csv").write_text(pd.DataFrame(rows).to_csv(index=False))
    assert ",-999.0" in (tmp_path / "rows.csv").read_text()
    pd.DataFrame(rows).to_parquet(tmp_path / "rows.parquet")
    for suffix in ("csv", "parquet"):
        predict_file(model, str(tmp_path / f"rows.{suffix}"), str(tmp_path / "out.csv"), skip_bad=False)
        assert pd.read_csv(tmp_path / "out.csv")["y"].tolist() == expected
        assert not (tmp_path / "out.marks.csv").exists(), suffix


@pytest.mark.parametrize("kind", [object, "category"])
def test_parquet_columns_without_any_value_have_no_type_and_are_missing(model, expected, table, tmp_path, kind):
    pd.DataFrame([NOTHING, NOTHING], dtype=object).astype(kind).to_parquet(tmp_path / "rows.parquet")
    predict_file(model, str(tmp_path / "rows.parquet"), str(tmp_path / "out.csv"), skip_bad=False)
    assert pd.read_csv(tmp_path / "out.csv")["y"].tolist() == pytest.approx([expected.expected[1]] * 2, rel=1e-5)
    table.assign(size=None, kind=None).astype({"size": kind, "kind": kind}).to_parquet(tmp_path / "table.parquet")
    with pytest.raises(InputError) as caught:
        read_table(str(tmp_path / "table.parquet"), DICTIONARY)
    assert caught.value.args[1] == ["size: holds no value at all", "kind: holds no value at all"]


def test_requests_are_predicted_alike(model, expected):
    with serving(model) as (session, address):
        for nothing in (NOTHING, WORDS, {**WORDS, "kind": "NA", "place": "", "sold": "-999", "zone": -999}):
            body = json.dumps({"dataframe_records": [KNOWN, nothing]})
            answer = session.post(f"{address}/invocations", body, headers={"Content-Type": "application/json"})
            assert answer.json().get("predictions") == expected, answer.text


def test_rows_from_python_are_predicted_alike(model, expected, tmp_path):
    """As docs/DICTIONARY.md says that they are read."""
    path = tmp_path / "rows.csv"
    path.write_text(pd.DataFrame([KNOWN, WORDS]).to_csv(index=False))
    read = pd.read_csv(path, keep_default_na=False, na_values=["NA", ""])
    assert model.predict(read) == expected
    assert model.predict(pd.DataFrame([KNOWN, WORDS])) == expected
    some = pd.DataFrame([KNOWN, dict.fromkeys(KNOWN, pd.NA)]).astype({"size": "Float64", "zone": "Float64"})
    assert model.predict(some) == expected
    worded = pd.DataFrame([KNOWN, {**WORDS, "size": "-999.0"}]).astype({"size": object, "zone": object})
    assert model.predict(worded) == expected
    many = pd.DataFrame([KNOWN, WORDS] * 300)
    assert model.predict(many)[:2] == expected
    assert model.predict(many.astype({"kind": "category", "place": "category"}))[:2] == expected


def test_a_word_that_reads_as_a_number_is_none_of_a_name():
    """Only the word itself is missing in a column of text."""
    encoder = Encoder({"target": "y", "missing": ["1"], "columns": {"kind": {"type": "category", "rare": 1}}})
    rows = pd.DataFrame({"y": 1.0, "kind": ["a", "a", "1.0"]})
    assert encoder.fit(rows).transform(rows).tolist() == [[0], [0], [1]]


def test_a_time_of_day_in_parquet_is_spelled_as_python_does(tmp_path):
    times = [dt.time(9, 30), dt.time(18, 0, 5, 500), None]
    table = pd.DataFrame({"clock": times * 10, "y": range(30)})
    table.to_parquet(tmp_path / "table.parquet")
    columns = {"clock": {"type": "category", "feature": True}, "y": {"type": "number", "feature": True}}
    rows = read_table(str(tmp_path / "table.parquet"), {"target": "y", "columns": columns}, log_target=False)
    assert rows["clock"].dropna().tolist() == [str(time) for time in table["clock"].dropna()]


def test_the_row_that_docs_shows_can_be_sent(model):
    rules = make_rules({name: column.is_number for name, column in model["encoder"].columns_.items()}, DICTIONARY)
    kind = make_body_type(rules)
    (shown,) = [media["example"] for media in describe_body(kind, rules)["content"].values() if "example" in media]
    rows = read_json(json.dumps(shown).encode(), rules, kind)
    assert len(rows) == 1
    assert rows.notna().all(axis=None)
    assert np.isfinite(model.predict(rows)).all()


def test_a_zero_that_is_missing_is_no_false():
    columns = {"flag": {"type": "flag", "feature": True}, "y": {"type": "number", "feature": True}}
    dictionary = {"target": "y", "missing": ["0"], "columns": columns}
    encoder = Encoder(dictionary).fit(pd.DataFrame({"flag": ["true", "true", "false"], "y": 1.0}))
    for false in (False, "false"):
        assert encoder.transform(pd.DataFrame({"flag": [false, True]})).tolist() == [[0], [1]]
    for zero in (0, "0", None):
        assert encoder.transform(pd.DataFrame({"flag": pd.Series([zero, True], dtype=object)})).tolist() == [[1], [1]]
    rules = make_rules({"flag": False}, dictionary)
    body = json.dumps({"inputs": [{"flag": value} for value in (False, True, 0, 1, "0", None)]}).encode()
    read = read_json(body, rules, make_body_type(rules))["flag"]
    assert read.isna().tolist() == [False, False, True, False, True, True]
