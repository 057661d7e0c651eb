"""What a column learns from training rows: fills, levels and means, from the counts of its values.

Every logged model carries a copy of this file, so it imports nothing but numpy, pandas and the two files below.
"""

import math
from collections import Counter
from typing import Any

import numpy as np
import pandas as pd

from stages.table.columns import (
    ABSENT,
    FOLDS,
    MEAN,
    OTHER,
    Category,
    Column,
    Date,
    Flag,
    GroupMean,
    Nominal,
    Number,
    Ordinal,
    Rated,
)
from stages.table.counts import Counts, count_levels, count_numbers, mean_of, median_of
from stages.table.values import FLAGS, to_days, to_floats


def describe_columns(rows: pd.DataFrame, dictionary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What the dictionary says of each column of some rows that can be learned from."""
    known = dictionary.get("columns", {})
    others = (dictionary["target"], dictionary.get("id"))
    return {name: known[name] for name in rows.columns if name in known and name not in others}


def count_column(rows: pd.DataFrame, name: str, described: dict[str, Any]) -> Counts:
    """All that `learn_column` has to know of some training rows."""
    if described["type"] == "date":
        return count_numbers(to_days(rows[name], described["format"]))
    if described["type"] != "number":
        return count_levels(rows[name])
    if described.get("na_means") == "absent":
        return Counts()
    return count_numbers(to_floats(rows[name]), rows[described["fill_by"]] if "fill_by" in described else None)


def learn_column(name: str, described: dict[str, Any], counts: Counts, rare: int) -> Column:
    """A column with its fills or levels, learned from the counts of the training rows' values."""
    absent = described.get("na_means") == "absent"
    match described["type"]:
        case "number":
            return learn_number(name, counts, absent, described.get("fill_by"))
        case "ordinal":
            places = {level: place + 1.0 for place, level in enumerate(described["levels"])}
            known = count_places(counts, places)
            return Ordinal(name, described["levels"], 0.0 if absent or not known else median_of(known))
        case "flag":
            known = count_places(counts, FLAGS)
            return Flag(name, 0.0 if absent or not known else float(known[1] > known[0]))
        case "date":
            return learn_date(name, described["format"], counts)
    return learn_category(name, counts.rows, absent, described.get("rare", rare), described["type"] == "nominal")


def count_places(counts: Counts, places: dict[Any, Any]) -> Counter[Any]:
    """In how many rows each place stands, given those of the levels that stand for it."""
    known: Counter[Any] = Counter()
    for level, count in counts.rows.items():
        if level in places:
            known[places[level]] += count
    return known


def learn_date(name: str, form: str, counts: Counts) -> Date:
    """The hour is a feature only if some training row has one beside midnight."""
    known = {days: count for days, count in counts.rows.items() if days is not None} or {0.0: 1}
    hour = ["hour"] if any(days % 1 for days in known) else []
    return Date(name, form, min(known), median_of(known), ["year", "month", "weekday", *hour, "days"])


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


def rate_levels(column: Category, folds: list[Counts]) -> Rated:
    """A category with the mean of the target for each of its levels, from the pairs of target and level in each fold.

    Each mean is drawn to that of all rows, as if so many more of these stood in the level as the variance within
    levels exceeds that between them. Source: D. Micci-Barreca, SIGKDD Explorations 3(1), 2001.
    """
    groups = sum(folds[1:], folds[0]).split()
    levels = sorted(groups.keys() - {None}, key=str)
    everything = add_up(groups)
    mean, n_rows = mean_of(everything), sum(everything.values())
    count, total = np.zeros((FOLDS + 1, len(levels) + 1)), np.zeros((FOLDS + 1, len(levels) + 1))
    for fold, pairs in enumerate([*(f.split() for f in folds), groups]):
        for place, level in enumerate(levels):
            count[fold, place] = sum(pairs[level].values())
            total[fold, place] = math.fsum((value - mean) * n for value, n in pairs[level].items())
    count[:FOLDS], total[:FOLDS] = count[FOLDS] - count[:FOLDS], total[FOLDS] - total[:FOLDS]
    squares = math.fsum((value - mean) ** 2 * n for value, n in everything.items())
    explained = math.fsum(total[FOLDS, :-1] ** 2 / count[FOLDS, :-1])
    within = (squares - explained) / max(n_rows - len(levels), 1)
    between = (squares - within * n_rows) / n_rows
    weight = min(max(within / between, 0.1), 100.0) if between > 0 else 100.0
    learned = {**vars(column), "features": [*column.features, MEAN]}
    return Rated(**learned, levels=levels, means=mean + total / (count + weight))


def learn_means(pairs: Counts, group: str) -> GroupMean:
    """The mean of numbers for each level of a category, given in how many rows each pair stands."""
    groups = pairs.split()
    levels = sorted(groups.keys() - {None})
    return GroupMean(group, levels, np.array([*(mean_of(groups[g]) for g in levels), mean_of(add_up(groups))]))


def add_up(groups: dict[Any, Counter[float]]) -> Counter[float]:
    return sum(groups.values(), Counter())
