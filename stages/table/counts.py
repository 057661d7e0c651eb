"""How often each value stands in a column: the counts of a table's parts add up to those of the whole.

So an encoder learns the same from one part as from a thousand. Every logged model carries a copy of this file, so it
imports nothing but numpy and pandas.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

MOST = 2**17  # numbers in a column that are told apart; the counts of so many take about 15 MB
BITS = 16  # of a number that are kept if there are more: it is then off by at most 1 part in 65,536


@dataclass
class Counts:
    """In how many rows each value stands, or each pair of a number and a level; None stands for a missing one.

    If there are more than MOST different numbers, they are counted as rounded to BITS. Whether they are depends on
    all rows together, not on how these are divided into parts. Levels are all told apart.
    """

    rows: Counter[Any] = field(default_factory=Counter)
    numbers: bool = False
    rounded: bool = False

    def __add__(self, other: "Counts") -> "Counts":
        rows = self.rows.copy()
        rows.update(other.rows)
        if not self.numbers:
            return Counts(rows)
        return limit_numbers(rows, self.rounded or other.rounded)

    def split(self) -> dict[Any, Counter[float]]:
        """The counts of pairs as those of the numbers for each level, without missing numbers."""
        levels: defaultdict[Any, Counter[float]] = defaultdict(Counter)
        for (number, level), count in self.rows.items():
            if number is not None:
                levels[level][number] += count
        return levels


def count_levels(column: pd.Series) -> Counts:
    """In how many rows each level of a column stands."""
    codes, levels = pd.factorize(column)
    counts = np.bincount(codes + 1, minlength=len(levels) + 1).tolist()
    return Counts(+Counter(dict(zip([None, *levels.tolist()], counts, strict=True))))


def count_numbers(values: np.ndarray, group: pd.Series | None = None) -> Counts:
    """In how many rows each of the numbers stands, float64 (n_rows,), or each pair of a number and its row's level."""
    values = values + 0.0  # which makes one zero of 0.0 and -0.0
    if group is None:
        return limit_numbers(count_levels(pd.Series(values)).rows, rounded=False)
    (codes, numbers), (places, levels) = pd.factorize(values), pd.factorize(group)
    pairs, found = pd.factorize((codes + 1) * (len(levels) + 1) + places + 1)
    first, second = [None, *numbers.tolist()], [None, *levels.tolist()]
    keys = [(first[pair // len(second)], second[pair % len(second)]) for pair in found.tolist()]
    return limit_numbers(Counter(dict(zip(keys, np.bincount(pairs).tolist(), strict=True))), rounded=False)


def limit_numbers(rows: Counter[Any], rounded: bool) -> Counts:
    """Counts in which numbers are rounded if there are too many of them, or if some are rounded already."""
    if not rounded and len(rows) <= MOST:
        return Counts(rows, numbers=True)
    coarse: Counter[Any] = Counter()
    for key, count in rows.items():
        coarse[(round_number(key[0]), key[1]) if isinstance(key, tuple) else round_number(key)] += count
    return Counts(coarse, numbers=True, rounded=True)


def round_number(value: float | None) -> float | None:
    """A number to BITS binary digits."""
    if value is None:
        return None
    mantissa, exponent = math.frexp(value)
    return math.ldexp(round(mantissa * 2**BITS), exponent - BITS)


def median_of(counts: Mapping[float, int]) -> float:
    """The median of numbers, given in how many rows each stands."""
    values = np.array(sorted(counts))
    above = np.cumsum([counts[value] for value in values.tolist()])
    low, high = values[np.searchsorted(above, [(above[-1] - 1) // 2, above[-1] // 2], side="right")]
    return float((low + high) / 2)


def mean_of(counts: Mapping[float, int]) -> float:
    """The mean of numbers, given in how many rows each stands, rounded once: it does not depend on their order."""
    return math.fsum(value * count for value, count in counts.items()) / sum(counts.values())
