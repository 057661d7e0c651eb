"""The columns of a table, each of one kind, as they become numbers.

Every logged model carries a copy of this file, so it imports nothing but numpy, pandas and what they carry too.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from stages.table.values import FLAGS, find_levels, is_missing, to_days, to_floats

ABSENT = "(none)"
OTHER = "(other)"
MEAN = "(mean)"
FOLDS = 5  # of the training rows, for means of the target


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
            fills = np.array([*self.group_fills.values(), self.fill])
            places = find_levels(rows[self.group][missing], list(self.group_fills)) if self.group else -1
            values[missing] = fills[places]
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
class Flag:
    """Yes or no, in any of the usual words: 1 or 0; a missing or unknown one counts as `fill`."""

    name: str
    fill: float
    is_number: ClassVar[bool] = False

    def encode(self, rows: pd.DataFrame) -> np.ndarray:
        """Float64 (n_rows,), with nothing missing."""
        codes = find_levels(rows[self.name], FLAGS)
        return np.where(codes < 0, self.fill, codes)


@dataclass
class Date:
    """A day or a moment: its parts, and the days since `start`. A missing one counts as `fill`.

    format: how it is written, as pandas.to_datetime takes it. start and fill: in days since 1970.
    """

    name: str
    format: str
    start: float
    fill: float
    features: list[str]
    is_number: ClassVar[bool] = False
    joint: ClassVar[str] = "."

    def encode(self, rows: pd.DataFrame) -> np.ndarray:
        """Days since 1970, float64 (n_rows,), with nothing missing: the difference of two is in days.

        Raises ValueError for what is no date of this form.
        """
        days = to_days(rows[self.name], self.format)
        missing = np.isnan(days)
        if wrong := [value for value in rows[self.name][missing].unique() if not is_missing(value)]:
            raise ValueError(f"{self.name}: must be a date ({self.format}), found {wrong[0]!s:.60}")
        return np.where(missing, self.fill, days)

    def expand(self, rows: pd.DataFrame) -> np.ndarray:
        """Float64 (n_rows, n_features)."""
        days = self.encode(rows)
        moments = np.round(days * 86400).astype("datetime64[s]")
        months = moments.astype("datetime64[M]").astype(int)
        parts = {
            "year": months // 12 + 1970,
            "month": months % 12 + 1,
            "weekday": (np.floor(days) + 3) % 7,  # 0 for Monday; 1970 began on a Thursday
            "hour": days % 1 * 24,
            "days": days - self.start,
        }
        return np.column_stack([parts[name] for name in self.features])


@dataclass
class Category:
    """Names without order. `positions`: 0 for the commonest level, which gets no feature, then one per feature."""

    name: str
    positions: dict[Any, int]
    features: list[str]
    missing: int
    other: int
    is_number: ClassVar[bool] = False
    joint: ClassVar[str] = "="

    def expand(self, rows: pd.DataFrame) -> np.ndarray:
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
class Rated(Category):
    """A category of many levels: beside the usual features, what the target was on average where the level stands.

    means: (FOLDS + 1, n_levels + 1), without the rows of each fold, and with all; the last for any other level.
    """

    levels: list[Any] = field(default_factory=list)
    means: np.ndarray = field(default_factory=lambda: np.zeros((FOLDS + 1, 1)))

    def expand(self, rows: pd.DataFrame, folds: np.ndarray | int = FOLDS) -> np.ndarray:
        """Float64 (n_rows, n_features). folds: of training rows, whose own target must not tell of itself."""
        flags = super().expand(rows)[:, :-1]  # the last feature is the mean
        return np.column_stack([flags, self.means[folds, find_levels(rows[self.name], self.levels)]])


@dataclass
class GroupMean:
    """What the training rows that share a level had on average; all of them, for a level not seen."""

    group: str
    levels: list[Any]
    means: np.ndarray  # (n_levels + 1,), the last for any other level

    def encode(self, rows: pd.DataFrame) -> np.ndarray:
        """Float64 (n_rows,)."""
        return self.means[find_levels(rows[self.group], self.levels)]


Numeric = Number | Ordinal | Nominal | Flag | Date
Column = Numeric | Category


def name_target(dictionary: dict[str, Any]) -> str:
    """What is predicted, in words: `weight per apple, in grams`; as much of it as the dictionary knows."""
    row, unit = (dictionary.get(key) for key in ("row", "unit"))
    return f"{dictionary['target']}{f' per {row}' if row else ''}{f', in {unit}' if unit else ''}"
