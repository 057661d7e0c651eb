"""The encoder: row-wise, fitted on training rows, open to what it has not seen."""

import re

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import skew
from sklearn.preprocessing import StandardScaler

from stages.model.scaling import LogSkewed, Standardized, measure_skewness
from stages.table.encoder import Encoder


@pytest.fixture
def encoder(dictionary, houses):
    return Encoder(dictionary).fit(houses)


def encode(encoder, rows):
    return pd.DataFrame(encoder.transform(rows), index=rows.index, columns=encoder.get_feature_names_out())


def test_every_feature_is_finite_and_named_once(encoder, houses):
    X = encode(encoder, houses)
    assert np.isfinite(X.to_numpy()).all()
    assert X.columns.is_unique


def test_rows_are_encoded_alone_as_in_the_table(encoder, houses):
    whole = encoder.transform(houses)
    chunks = np.vstack([encoder.transform(houses[i : i + 7]) for i in range(0, len(houses), 7)])
    np.testing.assert_array_equal(whole, chunks)


def test_categorical_and_text_columns_encode_alike(encoder, houses):
    text = houses.select_dtypes("str").columns
    np.testing.assert_array_equal(
        encoder.transform(houses), encoder.transform(houses.astype(dict.fromkeys(text, "category")))
    )


def test_ordinal_is_its_place_on_the_scale_and_absent_is_zero(encoder, houses):
    rows = houses.head(2).assign(BsmtCond=["Ex", None])
    assert encode(encoder, rows)["BsmtCond"].tolist() == [5, 0]


def test_missing_number_takes_the_median_of_its_group(encoder, houses):
    names = houses[houses["Neighborhood"] == "NAmes"]
    row = names.head(1).assign(LotFrontage=np.nan)
    assert encode(encoder, row)["LotFrontage"].iloc[0] == names["LotFrontage"].median()


def test_unseen_level_and_rare_level_are_encoded_alike(encoder, houses):
    rows = houses.head(2).assign(Heating=["Fusion", "Floor"])  # Floor: one house in the table
    X = encode(encoder, rows)
    heating = [name for name in X if name.startswith("Heating=")]
    assert X[heating].iloc[0].tolist() == X[heating].iloc[1].tolist()


def test_derived_columns_follow_the_dictionary(encoder, houses):
    X = encode(encoder, houses.head(5))
    total = X["TotalBsmtSF"] + X["1stFlrSF"] + X["2ndFlrSF"]
    pd.testing.assert_series_equal(X["TotalSF"], total, check_names=False)


def test_mean_of_a_category_is_that_of_the_training_rows_and_overall_elsewhere(encoder, houses):
    known, unseen = houses.head(1), houses.head(1).assign(Neighborhood="Atlantis")
    names = houses[houses["Neighborhood"] == known["Neighborhood"].iloc[0]]
    feature = encode(encoder, pd.concat([known, unseen]))["NeighborhoodQual"].tolist()
    assert feature == pytest.approx([names["OverallQual"].mean(), houses["OverallQual"].mean()])


def test_column_has_its_own_limit_for_rare_levels():
    table = pd.DataFrame({"y": 1.0, "a": list("xxxyyz"), "b": list("xxxyyz")})
    columns = {"y": {"type": "number"}, "a": {"type": "category"}, "b": {"type": "category", "rare": 1}}
    encoder = Encoder({"target": "y", "rare": 3, "columns": columns}).fit(table)
    assert list(encoder.get_feature_names_out()) == ["a=(other)", "b=y", "b=z"]


def test_parts_of_a_long_table_are_encoded_as_one(encoder, houses, monkeypatch):
    whole = encoder.transform(houses)
    monkeypatch.setattr("stages.table.encoder.PART", 100)
    np.testing.assert_array_equal(encoder.transform(houses), whole)
    assert whole.dtype == np.float32


def test_missing_column_is_named(encoder, houses):
    with pytest.raises(ValueError, match="missing columns: LotArea"):
        encoder.transform(houses.drop(columns="LotArea"))


def test_target_never_reaches_the_features(encoder, houses):
    changed = houses.assign(SalePrice=1.0)
    np.testing.assert_array_equal(encoder.transform(houses), encoder.transform(changed))
    assert not any("SalePrice" in name for name in encoder.get_feature_names_out())


def test_rows_of_missing_values_are_encoded(encoder, houses):
    rows = houses.head(3).drop(columns="SalePrice")
    empty = pd.DataFrame(None, index=rows.index, columns=rows.columns, dtype=object)
    assert np.isfinite(encoder.transform(empty)).all()


def test_same_rows_give_the_same_bytes(dictionary, houses, tmp_path):
    for name in ("first", "second"):
        joblib.dump(Encoder(dictionary).fit(houses), tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "second").read_bytes()


def test_skewed_columns_are_logged_and_flags_are_not():
    X = np.column_stack([np.geomspace(1, 1000, 50), np.arange(50.0), np.arange(50) == 7])
    unskewed = LogSkewed().fit(X)
    assert unskewed.skewed_.tolist() == [True, False, False]
    np.testing.assert_allclose(unskewed.transform(X)[:, 0], np.log1p(X[:, 0]))


def test_standardized_columns_agree_with_their_reference():
    X = np.column_stack([np.random.default_rng(0).normal(5, 3, 100), np.ones(100)])
    expected = StandardScaler().fit_transform(X)
    np.testing.assert_allclose(Standardized().fit(X).transform(X.copy()), expected, atol=1e-12)


def test_skewness_agrees_with_its_reference():
    values = np.random.default_rng(0).exponential(50, 1000)
    assert measure_skewness(values) == pytest.approx(skew(values))
    assert measure_skewness(np.ones(10)) == 0


def test_values_beyond_the_training_rows_are_drawn_in():
    X = np.arange(0.0, 101.0).reshape(-1, 1)
    unskewed = LogSkewed(margin=0.25).fit(X)
    assert unskewed.transform(np.array([[1e12], [-1e12], [110.0]])).ravel().tolist() == [125, -25, 110]


TABLE = pd.DataFrame({"y": 1.0, "size": [1.0, 2, 3, 4], "place": ["a", "a", "b", None]})
COLUMNS = {"y": {"type": "number"}, "size": {"type": "number"}, "place": {"type": "category", "rare": 1}}


@pytest.mark.parametrize(
    "column",
    [
        ["Yes", "no", None, "yes"],
        [True, False, None, True],
        [1, 0, None, 1],
        ["1.0", "0", "perhaps", "TRUE"],
        pd.Categorical(["true", "f", None, "y"]),
    ],
)
def test_flag_is_one_or_zero_in_all_its_words_and_the_commonest_where_it_is_missing(column):
    table = pd.DataFrame({"y": 1.0, "new": column})
    encoder = Encoder({"target": "y", "columns": {"new": {"type": "flag"}}}).fit(table)
    assert encoder.transform(table).tolist() == [[1], [0], [1], [1]]
    assert encoder.transform(pd.concat([table] * 200)).tolist() == [[1], [0], [1], [1]] * 200


@pytest.mark.parametrize("form", ["ISO8601", "%d.%m.%Y", "%b %d, %Y"])
@pytest.mark.parametrize("kind", ["str", "category"])
def test_date_is_its_parts_and_the_days_since_the_first(form, kind):
    days = pd.to_datetime(["2020-02-29", "2019-12-30", "2020-01-01", None])
    text = days.strftime("%Y-%m-%d" if form == "ISO8601" else form)
    table = pd.DataFrame({"y": 1.0, "sold": pd.Series(text, dtype=kind)})
    encoder = Encoder({"target": "y", "columns": {"sold": {"type": "date", "format": form}}}).fit(table)
    assert list(encoder.get_feature_names_out()) == ["sold.year", "sold.month", "sold.weekday", "sold.days"]
    median = [2020, 1, 2, 2]
    assert encoder.transform(table).tolist() == [[2020, 2, 5, 61], [2019, 12, 0, 0], median, median]
    assert encoder.transform(table.assign(sold=days)).tolist() == encoder.transform(table).tolist()
    for wrong in ("soon", 29022020):
        with pytest.raises(ValueError, match=f"sold: must be a date \\({re.escape(form)}\\), found "):
            encoder.transform(table.assign(sold=[None, None, None, wrong]))


def test_moments_have_an_hour_and_dates_a_difference_in_days():
    table = pd.DataFrame({"y": 1.0, "start": ["2020-01-01T06:30:00"], "end": ["2020-01-03 00:00"]})
    columns = {name: {"type": "date", "format": "ISO8601", "feature": name == "start"} for name in ("start", "end")}
    dictionary = {"target": "y", "columns": columns, "derived": {"took": {"difference": ["end", "start"]}}}
    X = encode(Encoder(dictionary).fit(table), table)
    assert X["took"].tolist() == pytest.approx([1.75 - 0.5 / 24])
    assert X.iloc[0, 1:].to_dict() == {
        "start.year": 2020,
        "start.month": 1,
        "start.weekday": 2,
        "start.hour": 6.5,
        "start.days": 0,
    }


def encode_derived(derived, rows=TABLE):
    encoder = Encoder({"target": "y", "columns": COLUMNS, "derived": derived}).fit(TABLE)
    return pd.DataFrame(encoder.transform(rows), columns=encoder.get_feature_names_out())


def test_over_counts_from_a_value_on():
    assert encode_derived({"much": {"over": ["size", 2.5]}})["much"].tolist() == [0, 0, 0.5, 1.5]


def test_is_one_for_its_level_alone():
    X = encode_derived({"at_a": {"is": ["place", "a"]}}, TABLE.assign(place=["a", "b", "elsewhere", None]))
    assert X["at_a"].tolist() == [1, 0, 0, 0]


def test_mean_may_rest_on_derived_columns():
    derived = {
        "square": {"product": ["size", "size"]},
        "usual": {"mean": ["square", "place"]},
        "above": {"difference": ["square", "usual"]},
        "usual_above": {"mean": ["above", "place"]},
    }
    X = encode_derived(derived)
    assert X["usual"].tolist() == pytest.approx([2.5, 2.5, 9, 7.5])
    assert X["usual_above"].tolist() == pytest.approx([0, 0, 0, 2.125])


def test_features_of_absurd_numbers_stay_in_the_range_of_single_precision():
    derived = {"square": {"product": ["size", "size"]}, "cube": {"product": ["square", "size"]}}
    assert np.isfinite(encode_derived(derived, TABLE.assign(size=1e15))).all(axis=None)


def test_column_that_is_no_feature_is_there_to_derive_from():
    columns = {**COLUMNS, "size": {"type": "number", "feature": False}}
    encoder = Encoder({"target": "y", "columns": columns, "derived": {"more": {"over": ["size", 2]}}}).fit(TABLE)
    assert list(encoder.get_feature_names_out()) == ["more", "place=b"]


def test_features_of_one_name_are_told_apart():
    table = TABLE.assign(sold="2020-01-01", **{"sold.year": 1.0, "place": ["a", "(other)", "b", "c"]})
    columns = {
        "sold": {"type": "date", "format": "ISO8601"},
        "sold.year": {"type": "number"},
        "place": {"type": "category", "rare": 2},
    }
    table = pd.concat([table, table[table["place"] == "(other)"]])
    X = encode(Encoder({"target": "y", "columns": columns, "derived": {}}).fit(table), table)
    assert X["sold.year"].tolist() == [1] * 5
    assert X["sold.year'"].tolist() == [2020] * 5
    assert X.columns.is_unique
