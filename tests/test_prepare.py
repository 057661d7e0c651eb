"""Splitting and encoding: every row once, and nothing learnt from the test rows."""

import pandas as pd
import pytest
import yaml

from stages.prepare import has_long_tail, main, make_tables
from stages.shared.cli import InputError
from stages.shared.params import Data
from stages.table.encoder import Encoder
from stages.table.splitting import split_rows
from tests.conftest import ROOT

DATA = Data(path="", dictionary="", target=None, test_size=0.2, seed=42)


def prepare(houses, dictionary):
    train, test = (houses.iloc[positions] for positions in split_rows(len(houses), DATA))
    encoder = Encoder(dictionary).fit(train)
    return dict(make_tables({"train": train, "test": test}, encoder)), encoder


@pytest.fixture(scope="module")
def prepared(houses, dictionary):
    return prepare(houses, dictionary)


def test_split_is_80_20_and_no_house_is_on_both_sides(prepared, houses):
    tables, _ = prepared
    train, test = set(tables["X_train"].index), set(tables["X_test"].index)
    assert (len(train), len(test)) == (1168, 292)
    assert not train & test
    assert train | test == set(houses.index)
    assert {524, 1299} <= train
    assert {692, 899, 1047} <= test


def test_tables_share_their_rows(prepared):
    tables, _ = prepared
    for part in ("train", "test"):
        assert tables[f"rows_{part}"].index.equals(tables[f"X_{part}"].index)
        assert tables[f"rows_{part}"].index.equals(tables[f"y_{part}"].index)


def test_encoder_learns_nothing_from_the_test_rows(houses, dictionary, prepared):
    tables, encoder = prepared
    spoiled = houses.copy()
    test = tables["X_test"].index
    spoiled.loc[test, "LotFrontage"] = 999.0
    spoiled.loc[test, "MSZoning"] = "RP"
    _, again = prepare(spoiled, dictionary)
    assert again.columns_ == encoder.columns_
    assert {n: list(m.means) for n, m in again.means_.items()} == {n: list(m.means) for n, m in encoder.means_.items()}


def test_another_seed_gives_another_split(houses):
    first, second = (split_rows(len(houses), DATA.model_copy(update={"seed": seed}))[0] for seed in (1, 2))
    assert set(first) != set(second)


@pytest.mark.parametrize("n_rows", [2, 3])
def test_too_few_rows_to_split_is_refused(n_rows):
    with pytest.raises(InputError, match="each needs at least 2"):
        split_rows(n_rows, DATA.model_copy(update={"test_size": 0.5 if n_rows == 2 else 0.2}))


@pytest.mark.parametrize(
    ("target", "chosen"),
    [([1, 2, 3, 4, 1000], True), ([0, 2, 3, 4, 1000], False), ([-1, 2, 3, 4, 1000], False), ([1, 2, 3, 4, 5], False)],
)
def test_log_is_chosen_for_a_positive_target_with_a_long_tail(target, chosen):
    assert has_long_tail(pd.Series(target, dtype=float)) is chosen


@pytest.mark.parametrize("kind", ["text", "category"])
def test_nothing_is_learned_from_a_column_that_only_tells_groups_apart(tmp_path, monkeypatch, kind):
    rows = pd.DataFrame({"who": [f"p{row % 8}" for row in range(40)], "n": range(40), "y": range(1, 41)})
    rows.to_csv(tmp_path / "table.csv", index=False)
    (tmp_path / "table.yaml").write_text(f"target: y\ncolumns:\n  who: {{type: {kind}, feature: false}}\n")
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["data"] |= {"path": "table.csv", "dictionary": "table.yaml", "split": {"group": "who"}}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["prepare"])
    main()
    assert list(pd.read_parquet("data/prepared/X_train.parquet").columns) == ["n"]
    assert list(pd.read_parquet("data/prepared/rows_train.parquet").columns) == ["n"]
    assert list(pd.read_parquet("data/prepared/y_train.parquet").columns) == ["target", "group"]
