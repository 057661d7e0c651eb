"""The columns of a table, each of one kind, as they learn from training rows and become numbers.

Every logged model carries a copy of this file, so it imports nothing but numpy and pandas.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd

ABSENT = "(none)"
OTHER = "(other)"


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


def name_target(dictionary: dict[str, Any]) -> str:
    """What is predicted, in words: `weight per apple, in grams`; as much of it as the dictionary knows."""
    row, unit = (dictionary.get(key) for key in ("row", "unit"))
    return f"{dictionary['target']}{f' per {row}' if row else ''}{f', in {unit}' if unit else ''}"


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
