"""A category of many levels: the mean of the target out of fold, the same however the rows are divided."""

import functools
import itertools
import operator

import numpy as np
import pandas as pd
import pytest
import skops.io

from stages.table.encoder import Encoder
from stages.tracking.stored import TRUSTED_TYPES

DICTIONARY = {"target": "y", "columns": {"shop": {"type": "category"}, "x": {"type": "number"}}}


@pytest.fixture
def rows():
    """800 rows of 200 shops, each with a level of its own."""
    rng = np.random.default_rng(0)
    shop = rng.integers(200, size=800)
    level = rng.normal(size=200)
    y = 10 + level[shop] + 0.1 * rng.normal(size=800)
    return pd.DataFrame({"shop": [f"shop {i}" for i in shop], "x": rng.normal(size=800), "y": y})


def mean_feature(encoder, X):
    return X[:, list(encoder.get_feature_names_out()).index("shop=(mean)")]


def test_a_level_gets_the_mean_of_its_target_and_an_unknown_one_that_of_all(rows):
    encoder = Encoder(DICTIONARY).fit(rows)
    seen = mean_feature(encoder, encoder.transform(rows))
    assert np.corrcoef(seen, rows["y"])[0, 1] > 0.95
    unknown = mean_feature(encoder, encoder.transform(pd.DataFrame({"shop": ["shop 900", None], "x": 0.0})))
    assert unknown == pytest.approx(rows["y"].mean(), rel=1e-6)


def test_no_training_row_knows_its_own_target(rows):
    noise = rows.assign(y=np.random.default_rng(1).normal(size=len(rows)))  # that no shop tells
    encoder = Encoder(DICTIONARY)
    out_of_fold = mean_feature(encoder, encoder.fit_transform(noise, noise["y"].to_numpy()))
    assert np.corrcoef(out_of_fold, noise["y"])[0, 1] < 0.1
    other = noise.copy()
    other.loc[0, "y"] += 1000
    again = Encoder(DICTIONARY)
    changed = mean_feature(again, again.fit_transform(other, other["y"].to_numpy()))
    assert abs(changed[0] - out_of_fold[0]) < 5  # by the mean of all, which its level's is drawn to
    assert max(abs(changed - out_of_fold)[noise["shop"] == noise["shop"][0]]) > 5  # other rows of its shop do


@pytest.mark.parametrize("n_parts", [1, 3, 5])
def test_the_means_are_the_same_to_the_bit_however_the_rows_are_divided(rows, n_parts):
    whole = Encoder(DICTIONARY).fit(rows)
    ends = np.linspace(0, len(rows), n_parts + 1).astype(int)
    parts = [rows.iloc[start:end] for start, end in itertools.pairwise(ends)]
    divided = Encoder(DICTIONARY).fit_parts(lambda count: functools.reduce(operator.add, map(count, parts)))
    assert divided.columns_["shop"].means.tobytes() == whole.columns_["shop"].means.tobytes()
    halves = [divided.transform_training(part) for part in parts]
    assert np.concatenate(halves).tobytes() == whole.transform_training(rows).tobytes()


def test_a_category_of_few_levels_or_without_a_target_stays_as_it_was(rows):
    few = rows.assign(shop=rows["shop"].str[:6])
    assert "shop=(mean)" not in Encoder(DICTIONARY).fit(few).get_feature_names_out()
    assert "shop=(mean)" not in Encoder(DICTIONARY).fit(rows.drop(columns="y")).get_feature_names_out()


def test_it_is_kept_in_a_file_that_runs_no_code(rows):
    encoder = Encoder(DICTIONARY).fit(rows)
    loaded = skops.io.loads(skops.io.dumps(encoder), trusted=TRUSTED_TYPES)
    assert loaded.transform(rows).tobytes() == encoder.transform(rows).tobytes()


def test_a_level_that_is_called_as_the_feature_of_means_is(rows):
    named = rows.assign(shop=rows["shop"].replace("shop 1", "(mean)"))
    encoder, dictionary = Encoder(DICTIONARY), {**DICTIONARY, "rare": 1}
    X = encoder.set_params(dictionary=dictionary).fit_transform(named, named["y"].to_numpy())
    names = list(encoder.get_feature_names_out())
    assert len(set(names)) == len(names)
    assert X[:, names.index("shop=(mean)")].tolist() == (named["shop"] == "(mean)").astype(float).tolist()
    assert np.corrcoef(X[:, names.index("shop=(mean)'")], rows["y"])[0, 1] > 0.8


def test_a_column_of_many_levels_may_be_there_to_derive_from_alone(rows):
    columns = {**DICTIONARY["columns"], "shop": {"type": "category", "feature": False}}
    dictionary = {"target": "y", "columns": columns, "derived": {"usual": {"mean": ["x", "shop"]}}}
    encoder = Encoder(dictionary)
    encoder.fit_transform(rows, rows["y"].to_numpy())
    assert list(encoder.get_feature_names_out()) == ["x", "usual"]
