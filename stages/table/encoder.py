"""Raw rows → numbers: the encoder, which knows the table only through its dictionary.

Every logged model carries a copy of this file, so it imports nothing but numpy, pandas and scikit-learn.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

ABSENT = "(none)"
OTHER = "(other)"
PART = 2**16  # rows encoded at a time


@dataclass
class Number:
    """A quantity. A missing one counts as `fill`, or as the median of its group."""

    name: str
    fill: float
    group: str | None = None
    group_fills: dict[Any, float] = field(default_factory=dict)
    is_number: ClassVar[bool] = True

    def encode(self, rows: pd.DataFrame) -> np.ndarray:
        """Float64 (n_rows,), with nothing missing."""
        values = to_floats(rows[self.name])
        missing = np.isnan(values)
        if missing.any():
            values = values.copy()
            values[missing] = (
                [self.group_fills.get(group, self.fill) for group in rows[self.group][missing]]
                if self.group
                else self.fill
            )
        return values


@dataclass
class Ordinal:
    """A scale: the place of each level, from 1; a missing or unknown one counts as `fill`."""

    name: str
    levels: list[Any]
    fill: float
    is_number: ClassVar[bool] = False

    def encode(self, rows: pd.DataFrame) -> np.ndarray:
        """Float64 (n_rows,), with nothing missing."""
        codes = find_levels(rows[self.name], self.levels)
        return np.where(codes < 0, self.fill, codes + 1.0)


@dataclass
class Category:
    """Names without order. `positions`: 0 for the commonest level, which gets no feature, then one per feature."""

    name: str
    positions: dict[Any, int]
    features: list[str]
    missing: int
    other: int
    is_number: ClassVar[bool] = False

    def one_hot(self, rows: pd.DataFrame) -> np.ndarray:
        """Bool (n_rows, n_features)."""
        codes = find_levels(rows[self.name], self.positions, self.missing, self.other)
        return codes[:, None] == np.arange(1, len(self.features) + 1)


@dataclass
class Nominal(Category):
    """Numbers without order: one-hot as a category, and a number to derive columns from."""

    fill: float = 0.0
    is_number: ClassVar[bool] = True

    def encode(self, rows: pd.DataFrame) -> np.ndarray:
        """Float64 (n_rows,), with nothing missing."""
        return Number(self.name, self.fill).encode(rows)


@dataclass
class GroupMean:
    """What the training rows that share a level had on average; all of them, for a level not seen."""

    group: str
    levels: list[Any]
    means: np.ndarray  # (n_levels + 1,), the last for any other level

    def encode(self, rows: pd.DataFrame) -> np.ndarray:
        """Float64 (n_rows,)."""
        return self.means[find_levels(rows[self.group], self.levels)]


Numeric = Number | Ordinal | Nominal
Column = Numeric | Category


class Encoder(TransformerMixin, BaseEstimator):
    """Fill, order, derive and one-hot the columns of a table as its dictionary says.

    Fitted on the training rows only. `transform` is row-wise: the rows of a chunk are encoded as they
    would be in the whole table. Missing values, unseen categories and extra columns are all accepted.

    Parameters
    ----------
    dictionary : the content of a data dictionary (see data/dictionary.yaml), with at least `target`.
    """

    def __init__(self, dictionary: dict[str, Any]) -> None:
        self.dictionary = dictionary

    def fit(self, rows: pd.DataFrame, y: object = None) -> Self:
        """Learn fills and levels from raw training rows, (n_rows, n_columns)."""
        described = describe_columns(rows, self.dictionary)
        rare = self.dictionary.get("rare", 10)
        self.columns_: dict[str, Column] = {
            name: learn_column(rows, name, column, rare) for name, column in described.items()
        }
        self.derived_ = self.dictionary.get("derived", {})
        self.means_ = {
            name: learn_means(self.columns_[formula["mean"][0]].encode(rows), rows, formula["mean"][1])  # type: ignore[union-attr]
            for name, formula in self.derived_.items()
            if "mean" in formula
        }
        plain = [name for name, column in self.columns_.items() if not isinstance(column, Category)]
        levels = [f"{c.name}={f}" for c in self.columns_.values() if isinstance(c, Category) for f in c.features]
        self.feature_names_ = [*plain, *self.derived_, *levels]
        return self

    def transform(self, rows: pd.DataFrame) -> np.ndarray:
        """Encode raw rows: (n_rows, n_columns) → float32 (n_rows, n_features), a part at a time to save memory.

        Raises ValueError if a column that the encoder was fitted on is missing.
        """
        check_is_fitted(self)
        missing = [name for name in self.columns_ if name not in rows]
        if missing:
            raise ValueError(f"missing columns: {', '.join(missing)}")
        X = np.empty((len(rows), len(self.feature_names_)), dtype=np.float32)
        for start in range(0, len(rows), PART):
            self._encode(rows.iloc[start : start + PART], X[start : start + PART])
        return X

    def _encode(self, rows: pd.DataFrame, X: np.ndarray) -> None:
        """Fill X with the features of rows, in the order of `feature_names_`."""
        columns = self.columns_.values()
        numbers = {c.name: c.encode(rows) for c in columns if not isinstance(c, Category) or isinstance(c, Nominal)}
        for name, formula in self.derived_.items():
            numbers[name] = self.means_[name].encode(rows) if "mean" in formula else derive(formula, numbers)
        shown = [
            values[:, None] for name, values in numbers.items() if not isinstance(self.columns_.get(name), Nominal)
        ]
        blocks = [column.one_hot(rows) for column in columns if isinstance(column, Category)]
        np.concatenate([*shown, *blocks], axis=1, out=X, casting="unsafe")

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        check_is_fitted(self)
        return np.array(self.feature_names_, dtype=object)


def describe_columns(rows: pd.DataFrame, dictionary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each feature column is: as the dictionary says, or, if it lists none, by what the column holds."""
    known = dictionary.get("columns") or {}
    described = {}
    for name in rows.columns:
        if name in (dictionary["target"], dictionary.get("id")):
            continue
        if name in known:
            described[name] = known[name]
        elif not known:
            number = pd.api.types.is_numeric_dtype(rows[name])
            described[name] = {"type": "number"} if number else {"type": "category", "na_means": "absent"}
    return described


def learn_column(rows: pd.DataFrame, name: str, described: dict[str, Any], rare: int) -> Column:
    """A column with its fills or levels learned from the training rows."""
    absent = described.get("na_means") == "absent"
    if described["type"] == "number":
        return learn_number(rows, name, absent, described.get("fill_by"))
    if described["type"] == "ordinal":
        codes = find_levels(rows[name], described["levels"])
        known = codes[codes >= 0] + 1.0
        return Ordinal(name, described["levels"], 0.0 if absent or not known.size else float(np.median(known)))
    return learn_category(rows[name], absent, described.get("rare", rare), described["type"] == "nominal")


def learn_number(rows: pd.DataFrame, name: str, absent: bool, group: str | None) -> Number:
    """A missing value counts as 0 if it means that there is none, else as the median, if need be of a group."""
    values = pd.Series(to_floats(rows[name]), index=rows.index)
    if absent or values.isna().all():
        return Number(name, 0.0)
    fill = float(values.median())
    if group is None:
        return Number(name, fill)
    medians = values.groupby(rows[group].astype(object)).median().dropna()
    return Number(name, fill, group, {level: float(median) for level, median in medians.items()})


def learn_category(column: pd.Series, absent: bool, rare: int, nominal: bool) -> Category:
    """Levels seen in fewer than `rare` rows share one feature with those never seen, if together they reach that
    number; otherwise they count as the commonest.
    """
    values = column.dropna().tolist()
    counts = Counter(values)
    if absent and len(values) < len(column):
        counts[ABSENT] += len(column) - len(values)
    ordered = sorted(counts, key=lambda level: (-counts[level], str(level)))
    kept = [level for level in ordered if counts[level] >= rare] or ordered[:1]
    features = [str(level) for level in kept[1:]]
    rest = sum(counts.values()) - sum(counts[level] for level in kept)
    positions = {level: position for position, level in enumerate(kept)}
    other = 0
    if rest >= rare:
        features.append(OTHER)
        other = len(features)
    missing = positions.get(ABSENT, other if absent else 0)
    learned = (str(column.name), positions, features, missing, other)
    return (
        Nominal(*learned, fill=float(kept[0]) if kept and kept[0] != ABSENT else 0.0) if nominal else Category(*learned)
    )


def learn_means(values: np.ndarray, rows: pd.DataFrame, group: str) -> GroupMean:
    """The mean of values (n_rows,) for each level of a category."""
    means = pd.Series(values).groupby(rows[group].astype(object).to_numpy()).mean()
    return GroupMean(group, list(means.index), np.array([*means, values.mean()]))


def to_floats(column: pd.Series) -> np.ndarray:
    return column.to_numpy(dtype=float, na_value=np.nan)


def find_levels(
    column: pd.Series, levels: dict[Any, int] | list[Any], missing: int = -1, other: int = -1
) -> np.ndarray:
    """Position of each value among the levels, (n_rows,)."""
    positions = levels if isinstance(levels, dict) else {level: position for position, level in enumerate(levels)}
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, found = column.cat.codes.to_numpy(), column.cat.categories
    elif len(column) > 500:  # worth the while to look each level up once
        codes, found = pd.factorize(column)
    else:
        return np.array([missing if is_missing(v) else positions.get(v, other) for v in column.tolist()], dtype=int)
    return np.array([*(positions.get(level, other) for level in found), missing])[codes]


def is_missing(value: object) -> bool:
    """None, or NaN, the only value that differs from itself (pandas.isna takes ten times as long)."""
    return value is None or value != value  # noqa: PLR0124


def derive(formula: dict[str, Any], numbers: dict[str, np.ndarray]) -> np.ndarray:
    """One derived column, (n_rows,): a sum, difference, product, or whether a number is positive."""
    ((operation, operands),) = formula.items()
    if operation == "sum":
        weights = operands if isinstance(operands, dict) else dict.fromkeys(operands, 1)
        return np.sum([weight * numbers[name] for name, weight in weights.items()], axis=0)
    if operation == "positive":
        return (numbers[operands] > 0).astype(float)
    first, second = (numbers[name] for name in operands)
    return first - second if operation == "difference" else first * second
