"""The columns of a table, each of one kind, as they become numbers.

Every logged model carries a copy of this file, so it imports nothing but numpy and pandas.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, ClassVar

import numpy as np
import pandas as pd

ABSENT = "(none)"
OTHER = "(other)"
MEAN = "(mean)"
FIRST_DAY, LAST_DAY = -719_162, 2_932_897  # of the years 1 to 9999, since 1970
MISSING = ("", "NA")  # text that is a missing value in every table
FOLDS = 5  # of the training rows, for means of the target
FLAGS: dict[Any, int] = {0: 0, 1: 1} | {  # False and True are 0 and 1
    spelled: value
    for value, words in enumerate((["false", "no", "f", "n", "0", "0.0"], ["true", "yes", "t", "y", "1", "1.0"]))
    for word in words
    for spelled in (word, word.capitalize(), word.upper())
}


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
    """A day or a moment: its parts, and the days since `start`. A missing or unreadable one counts as `fill`.

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
        """Days since 1970, float64 (n_rows,), with nothing missing: the difference of two is in days."""
        days = to_days(rows[self.name], self.format)
        return np.where(np.isnan(days), self.fill, days)

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


def to_floats(column: pd.Series) -> np.ndarray:
    return column.to_numpy(dtype=float, na_value=np.nan)


def to_days(column: pd.Series, form: str) -> np.ndarray:
    """Days since 1970 in UTC, float64 (n_rows,), NaN where there is no date of this form from year 1 to 9999."""
    codes, found = pd.factorize(column)
    width = 0 if form == "ISO8601" else len(pd.Timestamp(0).strftime(form))
    words = np.array([*(spell_date(value, width) for value in found), None], dtype=object)[:-1]
    moments = pd.to_datetime(words, format=form, errors="coerce", utc=True)
    days = np.where(moments.isna(), np.nan, moments.as_unit("us").asi8 / 86_400e6)
    days[~((days >= FIRST_DAY) & (days < LAST_DAY))] = np.nan
    return np.append(days, np.nan)[codes]


def spell_date(value: Any, width: int) -> Any:
    """A date as the table has it, where pandas has read its digits as a number; None for a word without a digit, as
    pandas takes `now` for a date.
    """
    if isinstance(value, int | float | np.integer) and float(value).is_integer():
        return str(int(value)).zfill(width)
    return None if isinstance(value, str) and not any(map(str.isdigit, value)) else value


def find_levels(
    column: pd.Series, levels: dict[Any, int] | list[Any], missing: int = -1, other: int = -1
) -> np.ndarray:
    """Position of each value among the levels, (n_rows,)."""
    positions = levels if isinstance(levels, dict) else {level: position for position, level in enumerate(levels)}
    find = make_finder(positions, missing, other)
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, found = column.cat.codes.to_numpy(), column.cat.categories
    elif len(column) > 500:  # worth the while to look each level up once
        codes, found = pd.factorize(column)
    else:
        return np.array([find(value) for value in column.tolist()], int)
    return np.array([*map(find, found), missing])[codes]


def make_finder(positions: dict[Any, int], missing: int, other: int) -> Callable[[Any], int]:
    """What finds the position of a value, which pandas may have read as a number where text was meant, or the other
    way round.
    """

    @cache
    def spell() -> dict[Any, int]:
        return {simplify(key): place for key, place in reversed(positions.items()) if isinstance(key, str)}

    def find(value: Any) -> int:
        if is_missing(value):
            return missing
        if value in positions:
            return positions[value]
        if isinstance(value, str):
            return next((positions[number] for number in find_numbers([value]) if number in positions), other)
        text = str(value).removesuffix(".0")
        return positions[text] if text in positions else spell().get(simplify(str(value)), other)

    return find


def simplify(text: str) -> Any:
    """Text as the number that it says, or in small letters: the same for 1.50 and 1.5, for TRUE and True."""
    return next(iter(find_numbers([text])), text.lower())


def is_missing(value: object) -> bool:
    """None, pandas.NA, text for it, or NaN, the only value that differs from itself (pandas.isna: ten times slower)."""
    return value is None or value is pd.NA or value in MISSING or value != value  # noqa: PLR0124


def find_numbers(words: Iterable[str], decimal: str = ".") -> list[float]:
    """The numbers among the words for a missing value: -999 stands for one also where it was read as -999.0."""
    numbers = []
    for word in words:
        try:
            numbers.append(float(word.replace(decimal, ".")))
        except ValueError:
            continue
    return numbers
