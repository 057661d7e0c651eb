"""`auto` in a model's section of params.yaml: what stands for it, by the size of the training table or by
cross-validation on it.

The rules were chosen by cross-validation on the training rows of two dozen tables, of 187 to 43,000 rows and 4 to 173
features. Noise matters as much as size: where a fit costs little, it is searched among a few values instead.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

AUTO = "auto"


class Size(NamedTuple):
    rows: int
    features: int


class Candidates(NamedTuple):
    """Values to choose from, absolute or in standard deviations of the target as it is fitted."""

    values: tuple[float, ...]
    of_spread: bool = False


def clip(value: Any, low: Any, high: Any) -> Any:
    return max(low, min(value, high))


def count_trees(size: Size) -> int:
    return clip(50 * round(0.4 * math.sqrt(size.rows)), 300, 1000)


def find_depth(size: Size) -> int:
    return clip(round(math.log2(size.rows)) - 6, 3, 8)


def share_columns(size: Size, count: int) -> float:
    """The share of the columns that a split may choose from: `count` of them on a small table, more where there are
    rows to tell a good one from a lucky one.
    """
    share = count / size.features * max(1, size.rows / 1000)
    return round(clip(share, 0.05, 0.33 if size.rows < 2000 else 0.5), 2)


SIZED: dict[str, dict[str, Callable[[Size], Any]]] = {
    "random_forest": {
        "max_features": lambda size: round(clip(26 / size.features, 0.15, 0.5), 2),
        "max_samples": lambda size: None if size.rows <= 20_000 else round(20_000 / size.rows, 3),
    },
    "gradient_boosting": {
        "max_depth": lambda size: min(find_depth(size), 6),
        "max_features": lambda size: share_columns(size, 15),
        "subsample": lambda size: min(0.7, round(10_000 / size.rows, 3)),
    },
    "xgboost": {
        "n_estimators": count_trees,
        "max_depth": find_depth,
        "colsample_bynode": lambda size: share_columns(size, 12),
    },
    "lightgbm": {
        "n_estimators": count_trees,
        "num_leaves": lambda size: clip(round(0.3 * math.sqrt(size.rows)), 5, 63),
        "feature_fraction_bynode": lambda size: share_columns(size, 22),
    },
}

SEARCHED: dict[str, dict[str, Candidates]] = {
    "ridge": {"alpha": Candidates((1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0))},
    "lasso": {"alpha": Candidates((0.0004, 0.0016, 0.0064, 0.025, 0.1), of_spread=True)},
    "decision_tree": {"min_samples_leaf": Candidates((4, 12, 36))},
}


def list_rules(name: str) -> list[str]:
    """The parameters of a model for which `auto` may stand."""
    return [*SIZED.get(name, {}), *SEARCHED.get(name, {})]


def find_auto(name: str, section: dict[str, Any]) -> list[str]:
    """The keys of a section whose `auto` stands for a rule; any other is a word of the library's, or a mistake."""
    return [key for key in list_rules(name) if section.get(key) == AUTO]


def leave_out_auto(name: str, section: dict[str, Any]) -> dict[str, Any]:
    """The rest of a section, which can be checked before there is a table."""
    found = find_auto(name, section)
    return {key: value for key, value in section.items() if key not in found}


def apply_rules(name: str, section: dict[str, Any], size: Size) -> dict[str, Any]:
    """A section with a value for each `auto` that the size of the training table tells."""
    rules = SIZED.get(name, {})
    return section | {key: rules[key](size) for key in find_auto(name, section) if key in rules}


def list_candidates(name: str, section: dict[str, Any], y: np.ndarray) -> dict[str, list[float]]:
    """The values to try for each `auto` that is searched. y: the target as it is fitted, (n_rows,).

    Those that follow the target have two digits, so that they are the same on every processor.
    """
    spread, grid = float(y.std(dtype=float)) or 1.0, {}
    for key, (values, of_spread) in SEARCHED.get(name, {}).items():
        if section.get(key) == AUTO:
            grid[key] = [float(f"{value * spread:.1e}") for value in values] if of_spread else list(values)
    return grid
