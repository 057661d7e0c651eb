"""Raw rows → numbers: the encoder, which knows the table only through its dictionary.

Every logged model carries a copy of this file, so it imports nothing but numpy, pandas and scikit-learn.
"""

from collections import Counter
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

ABSENT = "(none)"
OTHER = "(other)"
PART = 2**16  # rows encoded at a time


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
        self.columns_ = describe_columns(rows, self.dictionary)
        self.derived_ = self.dictionary.get("derived") or {}
        rare = self.dictionary.get("rare", 10)
        for name, column in self.columns_.items():
            if column["type"] == "number":
                column.update(learn_fill(rows, name, column))
            elif column["type"] == "ordinal":
                codes = find_levels(rows[name], column["levels"])
                known = codes[codes >= 0] + 1.0
                column["fill"] = 0.0 if column["absent"] or not known.size else float(np.median(known))
            else:
                column.update(learn_levels(rows[name], column["absent"], column.get("rare", rare)))
        self.means_ = {
            name: learn_means(encode_numbers(rows, formula["mean"][0], self.columns_), rows[formula["mean"][1]])
            for name, formula in self.derived_.items()
            if "mean" in formula
        }
        self.feature_names_ = name_features(self.columns_, self.derived_)
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
        numbers: dict[str, np.ndarray] = {}
        blocks: list[np.ndarray] = []
        for name, column in self.columns_.items():
            if column["type"] != "category":
                numbers[name] = encode_numbers(rows, name, self.columns_)
            if column["type"] in ("category", "code"):
                codes = find_levels(rows[name], column["levels"], column["missing"], column["other"])
                blocks.append(codes[:, None] == np.arange(1, len(column["features"]) + 1))
        for name, formula in self.derived_.items():
            if "mean" in formula:
                levels, means = self.means_[name]
                numbers[name] = means[find_levels(rows[formula["mean"][1]], levels)]
            else:
                numbers[name] = derive(formula, numbers)
        wanted = [n for n in numbers if n in self.derived_ or self.columns_[n]["type"] != "code"]
        np.concatenate([*(numbers[name][:, None] for name in wanted), *blocks], axis=1, out=X, casting="unsafe")

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        check_is_fitted(self)
        return np.array(self.feature_names_, dtype=object)


def take_log(values: np.ndarray) -> np.ndarray:
    """Log(1 + x) to float32: numpy's log has other last bits on a processor with AVX-512 than on one without."""
    return np.log1p(values).astype(np.float32)


def undo_log(values: np.ndarray) -> np.ndarray:
    """Exp(x) - 1, in double precision also for XGBoost's single: to the cent, it is then the same on any processor."""
    return np.expm1(values, dtype=float)


class LogSkewed(TransformerMixin, BaseEstimator):
    """Log(1 + x) of the columns that are skewed in the training rows, for models that are linear in their inputs.

    A column is skewed if its sample skewness exceeds `threshold`, nothing in it is negative, and it is more than
    a 0/1 flag. Values beyond the training rows count as at most `margin` times their range beyond it: a line drawn
    on far past its data priced the largest houses up to six times too high, and no input may give an infinite price.
    """

    def __init__(self, threshold: float = 0.75, margin: float = 0.25) -> None:
        self.threshold = threshold
        self.margin = margin

    def fit(self, X: np.ndarray, y: object = None) -> Self:
        """Learn ranges and skewness from (n_rows, n_features)."""
        low, high = X.min(axis=0).astype(float), X.max(axis=0).astype(float)
        reach = self.margin * (high - low)
        self.low_, self.high_ = low - reach, high + reach
        skewness = np.array([abs(measure_skewness(column.astype(float))) for column in X.T])
        self.skewed_ = (skewness > self.threshold) & (low >= 0) & (high > 1)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Float64 (n_rows, n_features), a new array: what follows may work in place."""
        X = np.clip(X, self.low_, self.high_, dtype=float)
        for position in np.flatnonzero(self.skewed_):
            X[:, position] = take_log(np.maximum(X[:, position], 0))
        return X


class Standardized(TransformerMixin, BaseEstimator):
    """Zero mean and unit variance, column by column and in place: StandardScaler needs three times the memory."""

    def fit(self, X: np.ndarray, y: object = None) -> Self:
        """Learn mean and standard deviation of each column of (n_rows, n_features)."""
        self.mean_ = X.mean(axis=0)
        spread = np.array([column.std() for column in X.T])
        self.scale_ = np.where(spread > 0, spread, 1.0)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """X itself, changed."""
        X -= self.mean_
        X /= self.scale_
        return X


def measure_skewness(values: np.ndarray) -> float:
    """Sample skewness; 0 for a constant."""
    centred = values - values.mean()
    squared = centred * centred  # numpy's ** 3 takes twenty times as long as two products
    variance = float(squared.mean())
    return float((squared * centred).mean()) / variance**1.5 if variance else 0.0


def describe_columns(rows: pd.DataFrame, dictionary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """What each feature column is: as the dictionary says, or else by what the column holds."""
    known = dictionary.get("columns") or {}
    described = {}
    for name in rows.columns:
        if name in (dictionary["target"], dictionary.get("id")):
            continue
        if name in known:
            described[name] = {"absent": False, **known[name]}
        elif pd.api.types.is_numeric_dtype(rows[name]) and not known:
            described[name] = {"type": "number", "absent": False}
        elif not known:
            described[name] = {"type": "category", "absent": True}
    return described


def to_floats(column: pd.Series) -> np.ndarray:
    return column.to_numpy(dtype=float, na_value=np.nan)


def encode_numbers(rows: pd.DataFrame, name: str, columns: dict[str, dict[str, Any]]) -> np.ndarray:
    """A number, a code or a scale as numbers, with nothing missing."""
    column = columns[name]
    if column["type"] != "ordinal":
        return fill_numbers(rows, name, column)
    codes = find_levels(rows[name], column["levels"])
    return np.where(codes < 0, column["fill"], codes + 1.0)


def learn_means(values: np.ndarray, groups: pd.Series) -> tuple[list[Any], np.ndarray]:
    """The levels of a category, and the mean of a number in each; the last mean is for any other level."""
    means = pd.Series(values).groupby(groups.astype(object).to_numpy()).mean()
    return list(means.index), np.array([*means, values.mean()])


def learn_fill(rows: pd.DataFrame, name: str, column: dict[str, Any]) -> dict[str, Any]:
    """The value that stands in for a missing number: 0, the median, or a median for each group."""
    if column["absent"]:
        return {"fill": 0.0}
    values = pd.Series(to_floats(rows[name]), index=rows.index)
    learned: dict[str, Any] = {"fill": 0.0 if values.isna().all() else float(values.median())}
    if "fill_by" in column:
        medians = values.groupby(rows[column["fill_by"]].astype(object)).median().dropna()
        learned["group_fills"] = {level: float(median) for level, median in medians.items()}
    return learned


def fill_numbers(rows: pd.DataFrame, name: str, column: dict[str, Any]) -> np.ndarray:
    values = to_floats(rows[name])
    missing = np.isnan(values)
    if missing.any():
        values = values.copy()
        if "group_fills" in column:
            groups = rows[column["fill_by"]][missing]
            values[missing] = [column["group_fills"].get(group, column["fill"]) for group in groups]
        else:
            values[missing] = column["fill"]
    return values


def learn_levels(column: pd.Series, absent: bool, rare: int) -> dict[str, Any]:
    """Levels of a category: 0 for the commonest, which gets no feature, then one position per feature.

    Levels seen in fewer than `rare` rows share one position with those never seen, if together they
    reach that number; otherwise they count as the commonest.
    """
    values = column.dropna().tolist()
    counts = Counter(values)
    if absent and len(values) < len(column):
        counts[ABSENT] += len(column) - len(values)
    ordered = sorted(counts, key=lambda level: (-counts[level], str(level)))
    kept = [level for level in ordered if counts[level] >= rare] or ordered[:1]
    features = kept[1:]
    rest = sum(counts.values()) - sum(counts[level] for level in kept)
    levels = {level: position for position, level in enumerate(kept)}
    other = 0
    if rest >= rare:
        features = [*features, OTHER]
        other = len(features)
    return {
        "levels": levels,
        "features": [str(feature) for feature in features],
        "missing": levels.get(ABSENT, other if absent else 0),
        "other": other,
        "fill": float(kept[0]) if kept and isinstance(kept[0], int | float) else 0.0,
    }


def find_levels(
    column: pd.Series, levels: dict[Any, int] | list[Any], missing: int = -1, other: int = -1
) -> np.ndarray:
    """Position of each value among the levels."""
    if not isinstance(levels, dict):
        levels = {level: position for position, level in enumerate(levels)}
    if isinstance(column.dtype, pd.CategoricalDtype):
        codes, found = column.cat.codes.to_numpy(), column.cat.categories
    elif len(column) > 500:  # worth the while to look each level up once
        codes, found = pd.factorize(column)
    else:
        codes, found = None, None
    if codes is not None:
        return np.array([*(levels.get(level, other) for level in found), missing])[codes]
    return np.array([missing if is_missing(v) else levels.get(v, other) for v in column.tolist()], dtype=int)


def is_missing(value: object) -> bool:
    """None, or NaN, the only value that differs from itself (pandas.isna takes ten times as long)."""
    return value is None or value != value  # noqa: PLR0124


def derive(formula: dict[str, Any], numbers: dict[str, np.ndarray]) -> np.ndarray:
    """One derived column: a sum, difference, product, or whether a number is positive."""
    ((operation, operands),) = formula.items()
    if operation == "sum":
        weights = operands if isinstance(operands, dict) else dict.fromkeys(operands, 1)
        return np.sum([weight * numbers[name] for name, weight in weights.items()], axis=0)
    if operation == "positive":
        return (numbers[operands] > 0).astype(float)
    first, second = (numbers[name] for name in operands)
    return first - second if operation == "difference" else first * second


def name_features(columns: dict[str, dict[str, Any]], derived: dict[str, Any]) -> list[str]:
    plain = [name for name, column in columns.items() if column["type"] in ("number", "ordinal")]
    levels = [
        f"{name}={feature}"
        for name, column in columns.items()
        if column["type"] in ("category", "code")
        for feature in column["features"]
    ]
    return [*plain, *derived, *levels]
