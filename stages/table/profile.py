"""What looks wrong with a table before anything is learned from it.

Pandas is enough: libraries for profiling bring a report in HTML and tens of megabytes, and of those that are kept none
was found that knows a leak, an id or a code.
"""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from stages.table.inference import Facts

MOST_GROUPS = 200  # into which a column of numbers is cut, to see what it explains
LEAK = 0.9  # of the target's variance, explained by a straight line through one column
SHARP_LEAK = 0.95  # the same by rows with about the same value, which finds more than lines
FEWEST = 20  # rows from which numbers that lie close together look like ones given out one after the other
INDEX = re.compile(r"(?i)^$|^unnamed|^row.?(names?|numbers?|nr|no)?$|^index$")
ID = re.compile(r"(?i)(^|[^a-z])(ids?|key|uuid|guid|nr|no|number)([^a-z]|$)|I[dD]$")
CODE = re.compile(r"(?i)(^|[^a-z])(zip|postal|postcode|plz|code|type|class|category|fips|sic|naics)([^a-z]|$)|Code$")
UNIT = re.compile(r"[(\[]\s*([^()\[\]]+?)\s*[)\]]\s*$")


def find_useless(facts: Mapping[str, Facts]) -> dict[str, str]:
    """The columns from which there is nothing to learn, and why."""
    reasons = {}
    for name, fact in facts.items():
        if len(fact.counts) == 1 and not fact.missing:
            reasons[name] = f"holds {next(iter(fact.counts)):.40} in every row"
        elif tells_rows_apart(name, fact):
            counts = fact.numbers and (np.diff(fact.numbers) == 1).all()
            reasons[name] = "counts the rows" if counts else "another one in every row"
    return reasons


def tells_rows_apart(name: str, fact: Facts) -> bool:
    """Whether the values of a column name the rows: no two are equal, and it is called an id; or they are whole numbers
    that begin with 0 or 1 and lie as close together as if they had been given out one after the other.
    """
    kind = fact.entry["type"]
    if not 3 <= fact.rows == len(fact.counts) or fact.odd or kind not in ("number", "nominal", "category", "text"):
        return False
    if kind == "number":
        values = np.array(fact.numbers)
        if (values != values.round()).any():
            return False
        if fact.rows >= FEWEST and values.min() in (0, 1) and np.ptp(values) < 1.5 * fact.rows:
            return True
    return bool(ID.search(name) or INDEX.search(name))


def find_id(useless: Mapping[str, str]) -> str | None:
    """The column that names rows, and is no mere index of them."""
    return next((n for n, reason in useless.items() if not reason.startswith("holds") and not INDEX.search(n)), None)


def are_codes(values: pd.Series) -> bool:
    """Whether numbers are likely to be names: by what the column is called, or few, large and unevenly spaced."""
    levels = np.unique(values.dropna())
    if (levels != levels.round()).any():
        return False
    few = 6 <= len(levels) <= 30 and len(values) >= 20 * len(levels)
    return bool(CODE.search(str(values.name)) or (few and levels[0] >= 10 and len(np.unique(np.diff(levels))) > 1))


def find_leaks(rows: pd.DataFrame, target: str) -> dict[str, float]:
    """The columns that alone explain nearly all of the target, and how much: R² of a straight line, or of the mean of
    the other rows with about the same value.
    """
    known = rows[rows[target].notna()]
    y = known[target].to_numpy(float)
    if len(y) < FEWEST or np.ptp(y) == 0:
        return {}
    shares = {}
    for name in rows.columns.drop(target):
        line, groups = 0.0, pd.factorize(known[name], use_na_sentinel=False)[0]
        if pd.api.types.is_numeric_dtype(known[name]) and groups.max() > 0:
            x = known[name].fillna(known[name].median()).to_numpy(float)
            line = float(np.corrcoef(x, y)[0, 1] ** 2) if np.ptp(x) else 0.0
            edges = np.unique(np.quantile(x, np.linspace(0, 1, min(MOST_GROUPS, len(x) // 5) + 1)))
            groups = np.searchsorted(edges, x)
        sharp = explain(groups, y)
        if line >= LEAK or sharp >= SHARP_LEAK:
            shares[name] = max(line, sharp)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def explain(groups: np.ndarray, y: np.ndarray) -> float:
    """R² of predicting each value of y, (n_rows,), by the mean of the others in its group; a lonely one by that of all.

    groups: a whole number from 0 for each row.
    """
    count = np.bincount(groups)[groups]
    mean = (np.bincount(groups, y) / np.maximum(np.bincount(groups), 1))[groups]
    errors = np.where(count > 1, (y - mean) * count / np.maximum(count - 1, 1), y - y.mean())
    return float(1 - np.mean(errors**2) / np.var(y))


def find_unit(target: str) -> str | None:
    """The unit that stands in brackets behind a name."""
    found = UNIT.search(target)
    return found[1] if found else None
