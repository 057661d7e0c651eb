"""What a column is by what it holds, and what is said of it; what a dictionary says of a column comes first."""

import pandas as pd
import pytest

from stages.shared.cli import InputError
from stages.table.contract import read_table
from stages.table.inference import complete_dictionary, study_columns

N = 40
DAYS = pd.date_range("2020-01-01", periods=N)
KINDS = {  # 40 values of a column: the entry that they make
    "decimal": ([i / 8 for i in range(N)], {"type": "number"}),
    "whole": (list(range(N)), {"type": "number"}),
    "zero_one": ([0, 1] * 20, {"type": "number"}),
    "odd": (["?", *range(N - 1)], {"type": "number", "missing": ["?"]}),
    "mostly_absent": (["-"] * 30 + [1.5] * 10, {"type": "number", "missing": ["-"]}),
    "one_thousand": (["1,234", *range(N - 1)], {"type": "number", "missing": ["1,234"]}),
    "open_ended": (["3+"] * 5 + [0, 1, 2, 3, 4] * 7, {"type": "category", "na_means": "absent"}),
    "bool": ([True, False, None, True] * 10, {"type": "flag"}),
    "yes": (["Yes", "no", "N/A", "yes"] * 10, {"type": "flag", "missing": ["N/A"]}),
    "letter": (["Y", "N"] * 20, {"type": "category", "na_means": "absent"}),
    "colour": (["red", "blue", None, "?"] * 10, {"type": "category", "na_means": "absent"}),
    "day": (DAYS.strftime("%Y-%m-%d"), {"type": "date", "format": "ISO8601"}),
    "moment": (DAYS.strftime("%Y-%m-%dT%H:%M:%SZ"), {"type": "date", "format": "ISO8601"}),
    "dotted": (DAYS.strftime("%d.%m.%Y"), {"type": "date", "format": "%d.%m.%Y"}),
    "european": (DAYS.strftime("%d/%m/%Y"), {"type": "date", "format": "%d/%m/%Y"}),
    "american": ([*DAYS[:39].strftime("%m/%d/%Y"), "?"], {"type": "date", "format": "%m/%d/%Y", "missing": ["?"]}),
    "in_may": (["05 May 2020", "06 May 2020"] * 20, {"type": "date", "format": "%d %b %Y"}),
    "either": (["01/02/2020", "03/04/2020"] * 20, {"type": "text"}),
    "season": (
        [f"{year}-{year % 100 + 1}" for year in range(2010, 2020)] * 4,
        {"type": "category", "na_means": "absent"},
    ),
    "remark": ([f"seen {i} times" for i in range(N)], {"type": "text"}),
    "nothing": ([None] * N, {"type": "text"}),
    "only_dashes": (["-", None] * 20, {"type": "text"}),
}
TOLD = {"odd", "mostly_absent", "one_thousand", "yes", "american", "either", "remark", "nothing", "only_dashes"}


@pytest.fixture(scope="module", params=["csv", "csv.gz", "parquet"])
def path(request, tmp_path_factory):
    table = pd.DataFrame({name: list(values) for name, (values, _) in KINDS.items()} | {"y": range(1, N + 1)})
    path = tmp_path_factory.mktemp("table") / f"table.{request.param}"
    if request.param == "parquet":
        text = [name for name in table if name != "bool" and len(set(map(type, table[name]))) > 1]
        table.astype(dict.fromkeys(text, "str")).to_parquet(path)
    else:
        table.to_csv(path, index=False)
    return str(path)


def strip(entry):
    """An entry without what is so unless it says otherwise."""
    plain = {"feature": True, "na_means": "unknown"}
    return {key: value for key, value in entry.items() if plain.get(key) != value}


def test_every_column_is_typed_by_what_it_holds_and_odd_ones_are_told(path, capsys):
    completed = complete_dictionary(path, {"target": "y", "columns": {}})
    assert {name: strip(entry) for name, entry in completed["columns"].items()} == {
        name: entry for name, (_, entry) in KINDS.items()
    } | {"y": {"type": "number"}}
    told = [line.split(": ")[2] for line in capsys.readouterr().err.splitlines()]
    assert set(told) == TOLD
    assert len(told) == len(TOLD)


def test_facts_tell_what_stands_in_a_column(path):
    facts = study_columns(path, {"target": "y", "columns": {}}, ["odd", "colour", "day", "yes"])
    odd, colour, day = facts["odd"], facts["colour"], facts["day"]
    assert (odd.rows, odd.missing, odd.odd, odd.low, odd.high) == (N, 1, {"?": 1}, 0, N - 2)
    assert (colour.missing, dict(colour.counts)) == (10, {"red": 10, "blue": 10, "?": 10})
    assert (day.low, day.high) == ("2020-01-01", "2020-02-09")
    assert facts["yes"].missing == 10


def test_what_the_dictionary_lists_stays_and_the_rest_is_inferred(path):
    listed = {"remark": {"type": "text"}, "zero_one": {"type": "flag", "na_means": "unknown", "feature": True}}
    completed = complete_dictionary(path, {"target": "y", "columns": listed})
    assert completed["columns"]["zero_one"]["type"] == "flag"
    assert list(completed["columns"])[:3] == ["remark", "zero_one", "decimal"]
    rows = read_table(path, completed)
    assert rows.index[:2].tolist() == [1, 2]  # as a person counts them
    assert rows.loc[:2, "zero_one"].tolist() == ["0", "1"]
    assert rows.loc[:2, "odd"].isna().tolist() == [True, False]
    assert not {"remark", "either", "nothing"} & set(rows)


def test_words_of_the_dictionary_are_missing_in_every_column(path):
    completed = complete_dictionary(path, {"target": "y", "missing": ["red", "?"], "columns": {}})
    assert completed["columns"]["odd"].get("missing") is None
    rows = read_table(path, completed)
    assert rows["colour"].dropna().unique().tolist() == ["blue"]
    assert rows["odd"].isna().sum() == 1


LATIN = "größe;preis;when\n" + "".join(f"1.{i:03},5;{i},25;{i % 28 + 1:02}.01.2020\n" for i in range(30))


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({}, "encoding: latin-1"),
        ({"encoding": "latin-1"}, 'separator: ";"'),
        ({"encoding": "latin-1", "separator": ";"}, 'decimal: ",", thousands: "."'),
    ],
)
def test_key_that_a_table_needs_is_named(tmp_path, keys, words):
    path = tmp_path / "table.csv"
    path.write_bytes(LATIN.encode("latin-1"))
    with pytest.raises(InputError, match=words) as error:
        complete_dictionary(str(path), {"target": "preis", "columns": {}, **keys})
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("encoding", ["latin-1", "utf-8", "utf-8-sig", "utf-16"])
def test_table_is_read_as_its_keys_say(tmp_path, encoding):
    path = tmp_path / "table.csv"
    path.write_bytes(LATIN.encode(encoding))
    keys = {"encoding": encoding, "separator": ";", "decimal": ",", "thousands": "."}
    if encoding.startswith("utf-8"):
        del keys["encoding"]
    completed = complete_dictionary(str(path), {"target": "preis", "columns": {}, **keys})
    assert [entry["type"] for entry in completed["columns"].values()] == ["number", "number", "date"]
    rows = read_table(str(path), completed)
    assert rows.loc[8].tolist() == [1007.5, 7.25, "08.01.2020"]


@pytest.mark.parametrize("content", [b"PK\x03\x04 and so on", b"\xd0\xcf\x11\xe0\xa1\xb1"])
def test_excel_is_refused_with_a_hint(tmp_path, content):
    path = tmp_path / "table.xlsx"
    path.write_bytes(content + bytes(100))
    with pytest.raises(InputError, match="save the sheet as CSV"):
        complete_dictionary(str(path), {"target": "y", "columns": {}})


def test_target_of_words_is_one_of_numbers_all_the_same(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("y,x\nbig,1\nsmall,2\n")
    completed = complete_dictionary(str(path), {"target": "y", "columns": {}})
    with pytest.raises(InputError, match="y: must be a number, found 'big', 'small'"):
        read_table(str(path), completed)


@pytest.mark.parametrize(
    ("ids", "index", "fault"),
    [
        (["a1", "a2", "a3"], ["a1", "a2", "a3"], None),
        (["007", "008", "9"], ["007", "008", "9"], None),
        (["1", "2", "3.0"], [1, 2, 3], None),
        (["12345678", "2", "12345678"], None, "id: must be unique, found 12345678.0; 1 row.s., id 12345678$"),
        (["a", "b", "a"], None, "id: must be unique, found 'a'; 1 row.s., id a$"),
        (["a", "b", ""], None, "id: must not be missing"),
    ],
)
def test_ids_are_whole_numbers_or_names(tmp_path, ids, index, fault):
    path = tmp_path / "table.csv"
    pd.DataFrame({"id": ids, "x": [1, 2, 3], "y": [1, 2, 3]}).to_csv(path, index=False)
    completed = complete_dictionary(str(path), {"target": "y", "id": "id", "columns": {}})
    if fault:
        with pytest.raises(InputError, match=fault):
            read_table(str(path), completed)
    else:
        rows = read_table(str(path), completed)
        assert rows.index.tolist() == index
        assert list(rows) == ["x", "y"]


def test_infinity_is_a_fault_in_an_inferred_column_too(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("y,x\n1,inf\n2,3\n")
    with pytest.raises(InputError, match="x: must be finite"):
        read_table(str(path), complete_dictionary(str(path), {"target": "y", "columns": {}}))


def test_column_that_the_table_lacks_is_named(path):
    with pytest.raises(InputError, match="missing columns: size, price; found: decimal"):
        complete_dictionary(path, {"target": "price", "columns": {"size": {"type": "number"}}})


def test_column_of_a_derived_ones_name_is_refused(path):
    dictionary = {"target": "y", "columns": {}, "derived": {"colour": {"sum": ["y"]}}}
    with pytest.raises(InputError, match="columns of the names of derived ones: colour"):
        complete_dictionary(path, dictionary)
