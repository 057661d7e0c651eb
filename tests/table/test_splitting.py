"""The test rows are apart from the others as `data.split` says."""

import numpy as np
import pandas as pd
import pytest

from stages.shared.cli import InputError
from stages.shared.params import Data
from stages.table.splitting import find_apart, split_rows

DATES = {"sold": {"type": "date", "format": "%d.%m.%Y"}, "year": {"type": "number"}, "town": {"type": "category"}}
DICTIONARY = {"target": "price", "columns": {"price": {"type": "number"}, **DATES}}


@pytest.fixture
def table():
    days = pd.Series(pd.date_range("2020-01-01", periods=50).strftime("%d.%m.%Y"))
    towns = pd.Series([f"town {place % 10}" for place in range(50)])
    rows = pd.DataFrame({"price": np.arange(50.0), "sold": days, "year": np.arange(50.0) // 10, "town": towns})
    return rows.sample(frac=1, random_state=1)


def split(table, **changes):
    data = Data(**{"path": "", "dictionary": "", "target": None, "test_size": 0.2, "seed": 1, **changes})
    apart = find_apart(table, data, DICTIONARY)
    first, last = split_rows(len(table), data, apart)
    assert sorted([*first, *last]) == list(range(len(table)))
    return table.iloc[first], table.iloc[last]


@pytest.mark.parametrize("column", ["sold", "year"])
def test_the_last_rows_in_time_are_the_test(table, column):
    train, test = split(table, split={"time": column})
    assert len(test) == 10
    assert train["price"].max() < test["price"].min()


def test_a_group_is_on_one_side(table):
    train, test = split(table, split={"group": "town"})
    assert test["town"].nunique() == 2
    assert not set(train["town"]) & set(test["town"])


@pytest.mark.parametrize(
    ("chosen", "words"),
    [
        ({"time": "town"}, "data.split.time = town: is of type category; allowed are date and number"),
        ({"time": "place"}, "data.split.time = place: no column of the table to split by; it has sold, year, town"),
        ({"group": "price"}, "data.split.group = price: no column of the table to split by"),
        ({"group": "year"}, "missing in 1 row"),
    ],
)
def test_a_column_that_rows_cannot_be_split_by_is_refused(table, chosen, words):
    table.loc[3, "year"] = np.nan
    with pytest.raises(InputError, match=words):
        split(table, split=chosen)


@pytest.mark.parametrize("sizes", [[48, 1, 1], [1, 49]])
def test_groups_that_leave_one_row_on_a_side_are_refused(table, sizes):
    towns = np.repeat([f"town {place}" for place in range(len(sizes))], sizes)
    refused = 0
    for seed in range(10):
        try:
            train, test = split(table.assign(town=towns), split={"group": "town"}, seed=seed)
        except InputError as error:
            assert "each needs at least 2" in str(error)  # noqa: PT017 - not for every seed
            refused += 1
        else:
            assert min(len(train), len(test)) >= 2
    assert refused


def test_a_test_of_another_size_than_was_asked_for_is_told(table, capsys):
    split(table, split={"group": "town"})
    assert not capsys.readouterr().err
    split(table.assign(town=np.repeat(["a", "b"], 25)), split={"group": "town"})
    assert "25 of 50 rows are the test, 2.5 times data.test_size" in capsys.readouterr().err


def test_one_group_is_refused(table):
    with pytest.raises(InputError, match="1 group"):
        split(table.assign(town="Ames"), split={"group": "town"})
