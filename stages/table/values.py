"""What a value of a table says: nothing, a number, a day, or one of a column's levels; as the file spells it, or as
pandas has read it.

Every logged model carries a copy of this file, so it imports nothing but numpy and pandas.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

FIRST_DAY, LAST_DAY = -719_162, 2_932_897  # of the years 1 to 9999, since 1970
MISSING = ("", "NA")  # text that is a missing value in every table
EXACT = 2**53  # beyond it, two whole numbers may be one as a float
FLAGS: dict[Any, int] = {0: 0, 1: 1} | {  # False and True are 0 and 1
    spelled: value
    for value, words in enumerate((["false", "no", "f", "n", "0", "0.0"], ["true", "yes", "t", "y", "1", "1.0"]))
    for word in words
    for spelled in (word, word.capitalize(), word.upper())
}


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
    if isinstance(value, int | float | np.integer):  # 2001.10 as 2001.1 would be another month
        return str(int(value)).zfill(width) if float(value).is_integer() else None
    return None if isinstance(value, str) and not any(map(str.isdigit, value)) else value


def find_levels(
    column: pd.Series, levels: dict[Any, int] | list[Any], missing: int = -1, other: int = -1
) -> np.ndarray:
    """The place of each value among the levels, int (n_rows,): its position in a list, or what a dict has for it.

    missing, other: the place of a missing value, and of one that is no level; -1 is the last of an array of places.
    """
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
            return next((positions[number] for number in read_numbers([value]) if number in positions), other)
        text = str(value).removesuffix(".0")
        return positions[text] if text in positions else spell().get(simplify(str(value)), other)

    return find


def simplify(text: str) -> Any:
    """Text as the number that it says, or in small letters: the same for 1.50 and 1.5, for TRUE and True."""
    number = next(iter(read_numbers([text])), np.inf)
    return number if abs(number) < EXACT else text.lower()


def is_missing(value: object) -> bool:
    """None, pandas.NA, text for it, or NaN, the only value that differs from itself (pandas.isna: ten times slower)."""
    return value is None or value is pd.NA or value in MISSING or value != value  # noqa: PLR0124


def find_marks(dictionary: Mapping[str, Any]) -> tuple[str, str]:
    """How a table writes numbers: the decimal mark, and what stands between thousands."""
    return dictionary.get("decimal", "."), dictionary.get("thousands", "")


def read_numbers(words: Iterable[str], decimal: str = ".", thousands: str = "") -> list[float]:
    """The numbers among some words, as a table with these marks has them: -999 is the same as -999.0."""
    numbers = []
    for word in words:
        grouped = thousands and re.match(make_groups(decimal, thousands), word)
        plain = word.replace(thousands, "") if grouped else word
        if "_" not in plain and (decimal == "." or "." not in plain):
            with suppress(ValueError):
                numbers.append(float(plain.replace(decimal, ".")))
    return numbers


def make_groups(decimal: str, thousands: str) -> str:
    """A pattern of numbers in groups of three digits, as 1,234.5 is one."""
    return rf"^[-+]?\d{{1,3}}({re.escape(thousands)}\d{{3}})+({re.escape(decimal)}\d*)?$"
