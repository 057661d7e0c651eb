"""What a person may expect of the model in Production, whichever it is: finite prices, more for more house."""

import numpy as np
import pytest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def price(finished_project):
    """Prices of raw rows by the Production model, loaded as a user loads it."""
    import mlflow

    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(finished_project.store)
    model = mlflow.sklearn.load_model("models:/HousePricesPredictor/Production")
    mlflow.set_tracking_uri(before)
    return model.predict


def test_prices_of_known_houses_are_finite_positive_and_plausible(price, houses):
    prices = price(houses)
    assert np.isfinite(prices).all()
    assert (prices > 0).all()
    assert 0.9 < np.median(prices / houses["SalePrice"]) < 1.1


def test_prices_stay_finite_and_positive_for_absurd_houses(price, houses):
    """Every number at once at both ends of what the contract lets through, and every text unknown."""
    numbers = houses.select_dtypes("number").columns
    for value in (-1e15, -1, 0, 1e6, 1e15, np.nan):
        prices = price(houses.head(20).assign(**dict.fromkeys(numbers, value)))
        assert np.isfinite(prices).all(), value
        assert (prices > 0).all(), value
    words = houses.columns.difference(numbers)
    assert (price(houses.head(20).assign(**dict.fromkeys(words, "unheard of"))) > 0).all()


LARGER = {
    "200 square feet more on the first floor, a tenth more": {"1stFlrSF": 200, "GrLivArea": 200},
    "a basement larger by 200 square feet": {"TotalBsmtSF": 200, "BsmtUnfSF": 200},
    "overall quality one point higher": {"OverallQual": 1},
    "overall condition one point higher": {"OverallCond": 1},
    "a garage for one more car": {"GarageCars": 1, "GarageArea": 250},
    "one more bathroom": {"FullBath": 1},
    "a lot half an acre larger": {"LotArea": 20_000},
    "one more fireplace": {"Fireplaces": 1},
}


@pytest.mark.parametrize("change", LARGER)
def test_more_house_is_not_cheaper(price, houses, change):
    """On average over all houses that have such a thing already, and for nine in ten of them."""
    steps = LARGER[change]
    usual = houses[(houses[list(steps)] > 0).all(axis=1) & (houses["OverallQual"] < 10) & (houses["OverallCond"] < 9)]
    before = price(usual)
    after = price(usual.assign(**{name: usual[name] + step for name, step in steps.items()}))
    assert (after / before).mean() >= 1
    assert (after >= before * 0.999).mean() >= 0.9


@pytest.mark.parametrize(
    ("column", "scale"),
    [
        ("ExterQual", ["Fa", "TA", "Gd", "Ex"]),
        ("KitchenQual", ["Fa", "TA", "Gd", "Ex"]),
        ("BsmtQual", ["Fa", "TA", "Gd", "Ex"]),
        ("Functional", ["Maj2", "Mod", "Typ"]),
        ("CentralAir", ["N", "Y"]),
    ],
)
def test_better_marks_are_not_cheaper(price, houses, column, scale):
    average = [float(np.mean(price(houses.assign(**{column: mark})))) for mark in scale]
    assert average == sorted(average)


def test_what_says_nothing_of_a_house_changes_nothing(price, houses):
    """Its Id, the order of rows and columns, and the houses beside it."""
    prices = price(houses)
    shuffled = houses.sample(frac=1, random_state=0)
    np.testing.assert_allclose(price(shuffled), prices[houses.index.get_indexer(shuffled.index)], rtol=1e-9)
    np.testing.assert_allclose(price(houses[houses.columns[::-1]].assign(Id=0)), prices, rtol=1e-9)
    alone = np.concatenate([price(houses.iloc[[row]]) for row in range(10)])
    np.testing.assert_allclose(alone, prices[:10], rtol=1e-9)


def test_none_as_a_word_and_as_a_missing_value_are_one(price, houses):
    """pandas reads the level None of MasVnrType as missing unless told otherwise; it must not matter."""
    word = houses[houses["MasVnrType"] == "None"]
    assert len(word) > 800
    np.testing.assert_array_equal(price(word), price(word.assign(MasVnrType=None)))
