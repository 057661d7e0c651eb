"""Rows that pandas has read in its own way are encoded as those of the file."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from stages.table.checks import make_rules, parse_numbers
from stages.table.contract import read_table
from stages.table.encoder import Encoder
from stages.table.values import find_marks, read_numbers, to_days

N = 40
COLUMNS = {
    "nominal beside a word": ({"type": "nominal", "missing": ["n/a"]}, ["007", "008", "010", "n/a"]),
    "codes with zeros": ({"type": "category"}, ["01", "02", "10", "02"]),
    "decimals": ({"type": "category"}, ["1.50", "2.0", "2.25", "2.0"]),
    "a scale of numbers": ({"type": "ordinal", "levels": ["1.0", "2.0", "3.0"]}, ["1.0", "3.0", "2.0", "3.0"]),
    "truth": ({"type": "category"}, ["TRUE", "FALSE", "TRUE", "TRUE"]),
    "dates in digits": ({"type": "date", "format": "%Y%m%d"}, ["20200101", "20210305", "", "20200101"]),
    "dates that begin with 0": ({"type": "date", "format": "%d%m%Y"}, ["01022020", "11022021", "", "03122020"]),
    "years": ({"type": "date", "format": "ISO8601"}, ["2020", "1999", "", "2020"]),
}


@pytest.mark.parametrize("case", COLUMNS)
@pytest.mark.parametrize("many", [1, 20])
def test_rows_of_pandas_are_those_of_the_file(tmp_path, case, many):
    entry, words = COLUMNS[case]
    path = tmp_path / "table.csv"
    table = pd.DataFrame({"x": words * (N // 4 * many), "y": range(1, N * many + 1)})
    table.to_csv(path, index=False)
    columns = {"x": {"rare": 1, "feature": True, **entry}, "y": {"type": "number", "feature": True}}
    dictionary = {"target": "y", "columns": columns}
    rows = read_table(str(path), dictionary)
    encoder = Encoder(dictionary).fit(rows)
    expected = encoder.transform(rows)
    assert np.ptp(expected, axis=0).max() > 0
    read = pd.read_csv(path, keep_default_na=False, na_values=["NA", ""])
    np.testing.assert_array_equal(encoder.transform(read), expected)


def test_long_numbers_that_are_one_as_a_float_stay_apart():
    columns = {"x": {"type": "category", "rare": 1}}
    rows = pd.DataFrame({"y": 1.0, "x": ["12345678901234567", "1", "1"]})
    encoder = Encoder({"target": "y", "columns": columns}).fit(rows)
    asked = pd.DataFrame({"x": [12345678901234567, 12345678901234568, 1]})
    assert encoder.transform(asked)[:, 0].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("words", "marks", "numbers"),
    [
        (["-999", "-999.0", "n/a", " 7"], {}, [-999, -999, 7]),
        (["1_000", "1,5", "1,000"], {}, []),
        (["1,5", "1.5"], {"decimal": ","}, [1.5]),
        (["9.999", "9.99", "1.234.567,8"], {"decimal": ",", "thousands": "."}, [9999, 1234567.8]),
        (["9,999", "9,99"], {"thousands": ","}, [9999]),
    ],
)
def test_words_for_a_missing_value_are_the_numbers_that_a_table_would_have(tmp_path, words, marks, numbers):
    assert read_numbers(words, *find_marks(marks)) == numbers
    rule = make_rules({"x": True}, marks)[0]
    values, wrong = parse_numbers(pa.array(words), rule)
    assert values[~wrong].tolist() == numbers


def test_fill_of_a_group_is_found_whatever_the_group_was_read_as():
    group = {"type": "category", "feature": True}
    dictionary = {"target": "y", "columns": {"size": {"type": "number", "fill_by": "town"}, "town": group}}
    rows = pd.DataFrame({"y": 1.0, "size": [1.0, 9, 9, np.nan], "town": ["01", "02", "02", "01"]})
    encoder = Encoder(dictionary).fit(rows)
    assert encoder.transform(rows.assign(town=[1, 2, 2, 1])).tolist() == encoder.transform(rows).tolist()
    assert encoder.transform(rows)[3, 0] == 1


def test_a_month_of_a_number_with_a_fraction_is_none():
    assert np.isnan(to_days(pd.Series([2001.1, np.nan]), "%Y.%m")).all()


@pytest.mark.parametrize("word", ["now", "today", "0000-01-01", "-0001-01-01", "NaT", ""])
def test_what_is_no_date_is_none(word):
    for form in ("ISO8601", "%d.%m.%Y", "%Y-%m-%d"):
        assert np.isnan(to_days(pd.Series([word]), form)).all()
