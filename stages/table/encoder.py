"""Raw rows → numbers: the encoder, which knows the table only through its dictionary.

Every logged model carries a copy of this file, so it imports nothing but numpy, pandas, scikit-learn and the files
below, which it carries too.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from stages.table.columns import FOLDS, Category, Column, Date, GroupMean, Numeric, Rated
from stages.table.counts import Counts, count_numbers
from stages.table.learning import count_column, describe_columns, learn_column, learn_means, rate_levels
from stages.table.values import find_levels, find_marks, read_numbers, to_floats

Total = Callable[[Callable[[pd.DataFrame], Any]], Any]

MANY = 100  # levels, beyond which a category is rated too
PART = 2**16  # rows encoded at a time
WIDE = (Category, Date)  # columns that become several features
LARGEST_FEATURE = 1e30  # either way: the cube of an absurd number leaves the range of the trees' float32


@dataclass
class Counted:
    """What the columns of some rows are, and what stands in them."""

    described: dict[str, dict[str, Any]]
    counts: dict[str, Counts]

    def __add__(self, other: "Counted") -> "Counted":
        return Counted(self.described, {name: count + other.counts[name] for name, count in self.counts.items()})


def count_rows(rows: pd.DataFrame, dictionary: dict[str, Any]) -> Counted:
    """What an encoder has to know of some training rows; that of all is the sum."""
    described = describe_columns(rows, dictionary)
    return Counted(described, {name: count_column(rows, name, column) for name, column in described.items()})


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

    def fit(self, rows: pd.DataFrame, y: np.ndarray | None = None) -> Self:
        """Learn fills and levels from raw training rows, (n_rows, n_columns), and their target, here or in a column."""
        if y is not None:
            rows = replace_columns(rows, {self.dictionary["target"]: y})
        return self.fit_parts(lambda count: count(rows))

    def fit_transform(self, rows: pd.DataFrame, y: np.ndarray | None = None) -> np.ndarray:
        """Fit, and encode the same rows, (n_rows, n_columns), with no mean of the target that knows a row's own."""
        return self.fit(rows, y).transform_training(rows)

    def transform_training(self, rows: pd.DataFrame) -> np.ndarray:
        """Encode the rows that the encoder was fitted on, as `fit_transform` does."""
        X = self.transform(rows)
        wide = self._list_wide()
        if any(isinstance(column, Rated) for column in wide):
            folds, end = self._draw_folds(rows), len(self.numbers_)
            for column in wide:
                end += len(column.features)
                if isinstance(column, Rated):
                    X[:, end - 1] = column.expand(rows, folds)[:, -1]
        return X

    def fit_parts(self, total: Total) -> Self:
        """Learn from the parts of a table: `total` calls a function with the rows of each and adds up what it returns.

        The result is the same to the bit, however the rows are divided.
        """
        counted = total(partial(count_rows, dictionary=self.dictionary))
        rare = self.dictionary.get("rare", 10)
        self.columns_: dict[str, Column] = {
            name: learn_column(name, described, counted.counts[name], rare)
            for name, described in counted.described.items()
        }
        many = [
            name for name, c in self.columns_.items() if type(c) is Category and len(counted.counts[name].rows) > MANY
        ]
        if many:
            pairs = total(partial(self._count_targets, many)).counts
            for name in many if pairs else []:
                column: Any = self.columns_[name]
                self.columns_[name] = rate_levels(column, [pairs[f"{fold} {name}"] for fold in range(FOLDS)])
        self.derived_ = self.dictionary.get("derived", {})
        self.means_: dict[str, GroupMean] = {}
        for name, formula in self.derived_.items():  # a mean may rest on derived columns, and these on other means
            if "mean" in formula:
                self.means_[name] = learn_means(total(partial(self._count_pairs, *formula["mean"])), formula["mean"][1])
        levels = [
            f"{column.name}{column.joint}{feature}" for column in self._list_wide() for feature in column.features
        ]
        self.numbers_ = [*(c.name for c in self._list_shown() if not isinstance(c, WIDE)), *self.derived_]
        self.feature_names_ = tell_apart([*self.numbers_, *levels])
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

    def _list_shown(self) -> list[Column]:
        """The columns that are features, not only there to derive some from."""
        known = self.dictionary.get("columns", {})
        return [column for name, column in self.columns_.items() if known.get(name, {}).get("feature", True)]

    def _list_wide(self) -> list[Category | Date]:
        """Those of them that become several features, in the order of these."""
        return [column for column in self._list_shown() if isinstance(column, WIDE)]

    def _count_pairs(self, number: str, group: str, rows: pd.DataFrame) -> Counts:
        return count_numbers(self._compute(rows, number), rows[group])

    def _draw_folds(self, rows: pd.DataFrame) -> np.ndarray:
        """A fold for each row, (n_rows,), by what stands in it: the same however the rows are divided."""
        hashed = pd.util.hash_pandas_object(rows[list(self.columns_)], index=False)
        return (hashed.to_numpy() % FOLDS).astype(int)

    def _count_targets(self, names: list[str], rows: pd.DataFrame) -> Counted:
        """In how many rows of each fold each pair of target and level stands; nothing for rows without a target."""
        if self.dictionary["target"] not in rows:
            return Counted({}, {})
        folds, y = self._draw_folds(rows), to_floats(rows[self.dictionary["target"]])
        return Counted(
            {},
            {
                f"{fold} {name}": count_numbers(y[folds == fold], rows[name][folds == fold])
                for fold in range(FOLDS)
                for name in names
            },
        )

    def _compute(self, rows: pd.DataFrame, name: str) -> np.ndarray:
        """One column or derived column of rows as numbers, from those that it rests on alone."""
        if name not in self.derived_:
            return self.columns_[name].encode(rows)  # type: ignore[union-attr]
        numbers = {operand: self._compute(rows, operand) for operand in find_operands(self.derived_[name])}
        return self._derive(name, rows, numbers)

    def _derive(self, name: str, rows: pd.DataFrame, numbers: dict[str, np.ndarray]) -> np.ndarray:
        """A derived column of rows, (n_rows,), from the numbers that it rests on."""
        formula = self.derived_[name]
        if "mean" in formula:
            return self.means_[name].encode(rows)
        if "is" in formula:
            column, level = formula["is"]
            return (find_levels(rows[column], [level]) == 0).astype(float)
        return derive(formula, numbers)

    def _drop_words(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Rows in which the dictionary's words for a missing value are missing values, as pandas left them."""
        known, cleaned = self.dictionary.get("columns", {}), {}
        marks = find_marks(self.dictionary)
        for name, column in self.columns_.items():
            words = [*self.dictionary.get("missing", ()), *known.get(name, {}).get("missing", ())]
            if words:
                numbers = set(read_numbers(words, *marks))
                if column.is_number and numbers:  # where another word has left a column of numbers as text
                    text = [value for value in rows[name].unique() if isinstance(value, str)]
                    words += [word for word in text if numbers.intersection(read_numbers([word], *marks))]
                missing = rows[name].isin([*words, *numbers])
                if numbers & {0, 1}:  # which False and True are equal to
                    missing &= ~rows[name].map(lambda value: isinstance(value, bool | np.bool_)).astype(bool)
                cleaned[name] = rows[name].where(~missing)
        return replace_columns(rows, cleaned) if cleaned else rows

    def _encode(self, rows: pd.DataFrame, X: np.ndarray) -> None:
        """Fill X with the features of rows, in the order of `feature_names_`."""
        rows = self._drop_words(rows)
        numbers = {c.name: c.encode(rows) for c in self.columns_.values() if isinstance(c, Numeric)}
        for name in self.derived_:
            numbers[name] = self._derive(name, rows, numbers)
        shown = [np.clip(numbers[name], -LARGEST_FEATURE, LARGEST_FEATURE)[:, None] for name in self.numbers_]
        blocks = [column.expand(rows) for column in self._list_wide()]
        np.concatenate([*shown, *blocks], axis=1, out=X, casting="unsafe")

    def get_feature_names_out(self, input_features: object = None) -> np.ndarray:
        check_is_fitted(self)
        return np.array(self.feature_names_, dtype=object)


def replace_columns(rows: pd.DataFrame, columns: Mapping[str, Any]) -> pd.DataFrame:
    """Rows with these columns; unlike `assign`, for any names."""
    rows = rows.copy(deep=False)
    for name, values in columns.items():
        rows[name] = values
    return rows


def tell_apart(names: list[str]) -> list[str]:
    """The names of features; one that is another's already, as a date's `sold.year` may be, has a mark behind it."""
    taken: dict[str, None] = {}
    for name in names:
        marks = next(marks for marks in count() if name + "'" * marks not in taken)
        taken[name + "'" * marks] = None
    return list(taken)


def find_operands(formula: dict[str, Any]) -> list[str]:
    """The columns whose numbers a derived column is computed from."""
    ((operation, operands),) = formula.items()
    if operation in ("is", "mean"):
        return []
    return [operands] if isinstance(operands, str) else list(operands)[: 1 if operation == "over" else None]


def derive(formula: dict[str, Any], numbers: dict[str, np.ndarray]) -> np.ndarray:
    """One derived column, (n_rows,), by one operation on numbers."""
    ((operation, operands),) = formula.items()
    if operation == "sum":
        weights = operands if isinstance(operands, dict) else dict.fromkeys(operands, 1)
        return np.sum([weight * numbers[name] for name, weight in weights.items()], axis=0)
    if operation == "positive":
        return (numbers[operands] > 0).astype(float)
    if operation == "over":
        return np.maximum(numbers[operands[0]] - operands[1], 0.0)
    first, second = (numbers[name] for name in operands)
    return first - second if operation == "difference" else first * second
