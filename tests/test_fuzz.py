"""Houses that nobody would think of, through every door: the price that the pipeline has for them, or a refusal."""

import csv
import io
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.predict import predict_file
from stages.shared.cli import InputError
from tests.rest import serving
from tests.test_bad_input import ridge  # noqa: F401 - a fixture

ROWS = 3
EXAMPLES = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
EDGES = [1e15, -1e15, 1.0000001e15, 5e15, 10**16, 1e17, -0.0, 5e-324, 1e308, float("inf"), 2**53 + 1, 10**400]
FITTING = st.one_of(st.integers(0, 3000), st.floats(0, 1e6), st.floats(-1e15, 1e15), st.integers(-(10**15), 10**15))
NUMBERS = st.one_of(st.sampled_from(EDGES), st.floats(allow_nan=False), st.integers(-(10**17), 10**17))
WORDS = ["NA", "", "nan", "None", "null", "NULL", "N/A", "inf", "-inf", "1e5", " 1", "1 ", "0x1", "TRUE", "1_0", "١"]
CELLS = st.one_of(
    st.sampled_from(WORDS), st.sampled_from(WORDS), st.booleans(), NUMBERS, TEXT, FITTING, FITTING.map(str)
)
STRANGE = st.one_of(CELLS, st.lists(CELLS, max_size=2), st.dictionaries(TEXT, CELLS, max_size=2))


@pytest.fixture(scope="module")
def server(ridge):  # noqa: F811
    with serving(ridge) as (session, address):
        yield session, f"{address}/invocations"


@pytest.fixture(scope="module")
def base(houses, ridge):  # noqa: F811
    """Some real houses as records, with None for what is missing."""
    rows = houses[list(ridge["encoder"].columns_)].head(ROWS)
    return [{name: None if pd.isna(value) else value for name, value in row.items()} for row in rows.to_dict("records")]


def change(data, base, strange):
    """The houses with some cells changed to what fits, and half of the time one to what may not."""
    rows = [dict(row) for row in base]
    names = data.draw(st.lists(st.sampled_from(list(base[0])), max_size=4, unique=True), label="columns")
    for row in rows:
        for name in names:
            fitting = FITTING if isinstance(base[0][name], float) else TEXT
            row[name] = data.draw(st.one_of(st.none(), fitting), label=name)
    if data.draw(st.booleans(), label="strange"):
        name = data.draw(st.sampled_from(list(base[0])), label="column")
        rows[data.draw(st.integers(0, ROWS - 1), label="row")][name] = data.draw(strange, label="cell")
    return data.draw(st.permutations(rows), label="order")


def expect(ridge, rows):  # noqa: F811
    """The prices of good rows by the pipeline itself; None if a value is not of its column's type, or out of bounds."""
    columns = {}
    for name, column in ridge["encoder"].columns_.items():
        values = [row.get(name) for row in rows]
        kinds = (int, float) if column.is_number else str
        if any(value is not None and (isinstance(value, bool) or not isinstance(value, kinds)) for value in values):
            return None
        if column.is_number and any(value is not None and not abs(value) <= 1e15 for value in values):
            return None
        columns[name] = pd.Series(values, dtype=float if column.is_number else object)
    return ridge.predict(pd.DataFrame(columns))


def read_as_text(rows, encoder):
    """What text in a CSV file means: nothing and NA are missing; a number is what reads as one, without frills."""
    meant = []
    for row in rows:
        cells = {name: None if text in ("", "NA") else text for name, text in row.items()}
        for name, column in encoder.columns_.items():
            if column.is_number and cells[name] is not None:
                cells[name] = to_number(cells[name])
        meant.append(cells)
    return meant


def to_number(text):
    try:
        return float(text) if text.isascii() and "_" not in text and "nan" not in text.lower() else text
    except ValueError:
        return text


def write_csv(rows):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def price(server, body, kind):
    """The prices of a request, or None if it is refused, in the one way in which that may be."""
    session, address = server
    answer = session.post(address, data=body, headers={"Content-Type": kind}, timeout=60)
    if answer.status_code == 200:
        return answer.json()["predictions"]
    assert 400 <= answer.status_code < 500, answer.text
    (reason,) = answer.json().values()
    assert len(reason) <= 500
    assert len(reason.splitlines()) == 1
    return None


def agree(found, expected):
    """Equal prices, or none on both sides."""
    assert (found is None) == (expected is None)
    if found is not None:
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@EXAMPLES
@given(data=st.data())
def test_json_is_priced_as_by_the_pipeline_or_refused(server, ridge, base, data):  # noqa: F811
    rows = change(data, base, STRANGE)
    form = data.draw(st.sampled_from(["dataframe_records", "inputs", "instances", "dataframe_split"]), label="form")
    body = {form: rows}
    if form == "dataframe_split":
        body = {form: {"columns": list(rows[0]), "data": [list(row.values()) for row in rows]}}
    agree(price(server, json.dumps(body), "application/json"), expect(ridge, rows))


def as_text(value):
    return "NA" if value is None else str(value)


@EXAMPLES
@given(data=st.data())
def test_csv_is_priced_as_by_the_pipeline_or_refused(server, ridge, base, tmp_path, data):  # noqa: F811
    """Over REST and from a file alike."""
    rows = [{name: as_text(value) for name, value in row.items()} for row in change(data, base, CELLS)]
    expected = expect(ridge, read_as_text(rows, ridge["encoder"]))
    body = write_csv(rows)
    agree(price(server, body.encode(), "text/csv"), expected)
    source, output = tmp_path / "houses.csv", tmp_path / "prices.csv"
    source.write_bytes(write_csv([{"Id": str(i), **row} for i, row in enumerate(rows, 1)]).encode())
    output.unlink(missing_ok=True)
    try:
        predict_file(ridge, str(source), str(output), skip_bad=False)
    except InputError:
        assert not output.exists()
        agree(None, expected)
    else:
        found = pd.read_csv(output)
        assert found["Id"].tolist() == list(range(1, len(rows) + 1))
        assert expected is not None
        np.testing.assert_allclose(found["SalePrice"], expected, atol=0.0051, rtol=1e-12)


@EXAMPLES
@given(body=st.binary(max_size=200), kind=st.sampled_from(["application/json", "text/csv"]))
def test_rubbish_is_refused(server, body, kind):
    assert price(server, body, kind) is None


@EXAMPLES
@given(data=st.data())
def test_a_damaged_csv_is_priced_as_what_it_says_or_refused(server, ridge, base, data):  # noqa: F811
    """Some bytes of a good request are others, gone or more."""
    rows = [{name: as_text(value) for name, value in row.items()} for row in base]
    body = bytearray(write_csv(rows).encode())
    for _ in range(data.draw(st.integers(1, 4), label="changes")):
        start = data.draw(st.integers(0, len(body) - 1), label="start")
        body[start : start + data.draw(st.integers(0, 3), label="gone")] = data.draw(st.binary(max_size=3), label="new")
    found = price(server, bytes(body), "text/csv")
    if found is not None:
        read = list(csv.DictReader(io.StringIO(bytes(body).decode("utf-8", "replace"), newline="")))
        rows = [{name: row[name] for name in ridge["encoder"].columns_} for row in read]
        agree(found, expect(ridge, read_as_text(rows, ridge["encoder"])))
