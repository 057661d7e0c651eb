"""Counts of the parts of a table add up to those of the whole: an encoder does not see how rows are divided."""

import pickle
from functools import reduce
from itertools import pairwise
from operator import add

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages.table import counts
from stages.table.counts import count_levels, count_numbers, mean_of, median_of
from stages.table.encoder import Encoder

ODD = {  # numbers that do not add up exactly, zeros of both signs, missing values, levels that most parts lack
    "columns": {
        "y": {"type": "number"},
        "size": {"type": "number", "fill_by": "place"},
        "age": {"type": "number"},
        "grade": {"type": "ordinal", "levels": ["low", "mid", "high"]},
        "kind": {"type": "nominal"},
        "place": {"type": "category", "na_means": "absent"},
        "new": {"type": "flag"},
        "sold": {"type": "date", "format": "ISO8601"},
    },
    "derived": {
        "usual": {"mean": ["size", "place"]},
        "above": {"difference": ["size", "usual"]},
        "usual_above": {"mean": ["above", "kind"]},
    },
    "target": "y",
    "rare": 3,
}


@pytest.fixture(scope="module")
def odd_rows():
    rng, n = np.random.default_rng(0), 60
    rows = pd.DataFrame(
        {
            "y": 1.0,
            "size": rng.choice([0.1, 0.2, 0.7, 1e-9, 1e9, np.nan], n),
            "age": rng.choice([-0.0, 0.0, np.nan], n),
            "grade": rng.choice(["low", "mid", "high", None], n),
            "kind": rng.choice([20.0, 30.0, np.nan], n),
            "place": rng.choice(["a", "b", "c", None], n),
            "new": rng.choice(["yes", "no", "1", None], n),
            "sold": rng.choice(["2020-01-01", "2020-02-29 13:00", "1955-07-01", "soon", None], n),
        }
    )
    return rows.astype(dict.fromkeys(["grade", "place", "new", "sold"], "str"))


def fit_parts(dictionary, rows, cuts):
    """An encoder fitted on parts that are counted elsewhere, as bytes."""
    edges = [0, *sorted(cuts), len(rows)]
    parts = [rows.iloc[start:end] for start, end in pairwise(edges)]
    encoder = Encoder(dictionary)
    encoder.fit_parts(lambda count: reduce(add, [pickle.loads(pickle.dumps(count(part))) for part in parts]))  # noqa: S301
    return encoder


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(0, 60), max_size=4), most=st.sampled_from([3, counts.MOST]))
def test_encoder_is_the_same_to_the_bit_however_rows_are_divided(odd_rows, monkeypatch, cuts, most):
    monkeypatch.setattr(counts, "MOST", most)
    assert pickle.dumps(fit_parts(ODD, odd_rows, cuts)) == pickle.dumps(fit_parts(ODD, odd_rows, []))


@pytest.mark.parametrize("n_parts", [2, 5])
def test_encoder_of_the_houses_is_the_same_from_parts(dictionary, houses, n_parts):
    cuts = np.linspace(0, len(houses), n_parts + 1, dtype=int)[1:-1].tolist()
    whole, parts = Encoder(dictionary).fit(houses), fit_parts(dictionary, houses, cuts)
    assert pickle.dumps(parts) == pickle.dumps(fit_parts(dictionary, houses, []))
    np.testing.assert_array_equal(parts.transform(houses), whole.transform(houses))
    assert parts.means_["NeighborhoodQual"].means.tolist() == whole.means_["NeighborhoodQual"].means.tolist()


def test_median_and_mean_agree_with_their_references():
    values = np.random.default_rng(0).integers(0, 9, 100) / 7
    for some in (values, values[:-1], values[:1]):
        counted = count_numbers(some).rows
        assert median_of(counted) == np.median(some)
        assert mean_of(counted) == pytest.approx(np.mean(some), rel=1e-15)


def test_missing_values_are_counted_as_none():
    assert count_numbers(np.array([1.0, np.nan])).rows == {1.0: 1, None: 1}
    assert count_levels(pd.Series(["a", None, "a"], dtype="str")).rows == {"a": 2, None: 1}
    pairs = count_numbers(np.array([1.0, np.nan, 1.0]), pd.Series(["a", "a", None], dtype="str"))
    assert pairs.rows == {(1.0, "a"): 1, (None, "a"): 1, (1.0, None): 1}
    assert pairs.split() == {"a": {1.0: 1}, None: {1.0: 1}}


def test_too_many_numbers_are_rounded_by_as_much_as_promised(monkeypatch):
    values = np.geomspace(1e-3, 1e6, 1001) * np.where(np.arange(1001) % 2, 1, -1)
    exact = median_of(count_numbers(np.abs(values)).rows)
    monkeypatch.setattr(counts, "MOST", 1000)
    rounded = count_numbers(values)
    assert rounded.rounded
    assert rounded.rows.total() == 1001
    assert median_of(count_numbers(np.abs(values)).rows) == pytest.approx(exact, rel=1 / 65_536)
    assert all(min(abs(key - values) / abs(values)) <= 1 / 65_536 for key in rounded.rows)


def test_counts_stay_rounded_when_few_are_added(monkeypatch):
    monkeypatch.setattr(counts, "MOST", 3)
    first = count_numbers(np.array([0.1, 0.2, 0.3, 0.4]))
    assert (first + count_numbers(np.array([])) + count_numbers(np.array([0.7]))).rows == count_numbers(
        np.array([0.1, 0.2, 0.3, 0.4, 0.7])
    ).rows
