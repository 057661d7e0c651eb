"""The columns of a table, each of one kind, as they learn from training rows and become numbers.

Every logged model carries a copy of this file, so it imports nothing but numpy, pandas and counts.py.
"""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from stages.table.counts import Counts, count_levels, count_numbers, mean_of, median_of

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


def count_column(rows: pd.DataFrame, name: str, described: dict[str, Any]) -> Counts:
    """All that `learn_column` has to know of some training rows."""
    if described["type"] != "number":
        return count_levels(rows[name])
    if described.get("na_means") == "absent":
        return Counts()
    return count_numbers(to_floats(rows[name]), rows[described["fill_by"]] if "fill_by" in described else None)


def learn_column(name: str, described: dict[str, Any], counts: Counts, rare: int) -> Column:
    """A column with its fills or levels, learned from the counts of the training rows' values."""
    absent = described.get("na_means") == "absent"
    if described["type"] == "number":
        return learn_number(name, counts, absent, described.get("fill_by"))
    if described["type"] == "ordinal":
        places = {level: place + 1.0 for place, level in enumerate(described["levels"])}
        known = {places[level]: count for level, count in counts.rows.items() if level in places}
        return Ordinal(name, described["levels"], 0.0 if absent or not known else median_of(known))
    return learn_category(name, counts.rows, absent, described.get("rare", rare), described["type"] == "nominal")


def learn_number(name: str, counts: Counts, absent: bool, group: str | None) -> Number:
    """A missing value counts as 0 if it means that there is none, else as the median, if need be of a group."""
    groups = counts.split() if group else {None: Counter({v: n for v, n in counts.rows.items() if v is not None})}
    known = add_up(groups)
    if absent or not known:
        return Number(name, 0.0)
    levels = sorted(groups.keys() - {None})
    return Number(name, median_of(known), group, {level: median_of(groups[level]) for level in levels})


def learn_category(name: str, counts: Counter[Any], absent: bool, rare: int, nominal: bool) -> Category:
    """Levels seen in fewer than `rare` rows share one feature with those never seen, if together they reach that
    number; otherwise they count as the commonest.
    """
    counts = counts.copy()
    missing_rows = counts.pop(None, 0)
    if absent and missing_rows:
        counts[ABSENT] += missing_rows
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
    learned = (name, positions, features, missing, other)
    return (
        Nominal(*learned, fill=float(kept[0]) if kept and kept[0] != ABSENT else 0.0) if nominal else Category(*learned)
    )


def learn_means(pairs: Counts, group: str) -> GroupMean:
    """The mean of numbers for each level of a category, given in how many rows each pair stands."""
    groups = pairs.split()
    levels = sorted(groups.keys() - {None})
    return GroupMean(group, levels, np.array([*(mean_of(groups[g]) for g in levels), mean_of(add_up(groups))]))


def add_up(groups: dict[Any, Counter[float]]) -> Counter[float]:
    return sum(groups.values(), Counter())


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
