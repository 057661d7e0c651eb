"""Encoded features and targets as linear models want them: logs, bounds, zero mean and unit variance.

Every logged model carries a copy of this file, so it imports nothing but numpy and scikit-learn.
"""

from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin


def take_log(values: np.ndarray) -> np.ndarray:
    """Log(1 + x) to float32: numpy's log has other last bits on a processor with AVX-512 than on one without."""
    return np.log1p(values).astype(np.float32)


def undo_log(values: np.ndarray) -> np.ndarray:
    """Exp(x) - 1, in double precision also for XGBoost's single: to the cent, it is then the same on any processor."""
    return np.expm1(values, dtype=float)


class LogSkewed(TransformerMixin, BaseEstimator):
    """Log(1 + x) of the columns that are skewed in the training rows, for models that are linear in their inputs.

    A column is skewed if its sample skewness exceeds `threshold`, nothing in it is negative, and it is more than
    a 0/1 flag. (M. G. Bulmer, Principles of Statistics, 1979, calls 1/2 to 1 moderately skewed; .75 is between.)
    Values beyond the training rows count as at most `margin` times their range beyond it: a line drawn on far past
    its data predicted the largest rows up to six times too high, and no input may give an infinite one.
    """

    def __init__(self, threshold: float = 0.75, margin: float = 0.1) -> None:
        self.threshold = threshold
        self.margin = margin

    def fit(self, X: np.ndarray, y: object = None) -> Self:
        """Learn ranges and skewness from (n_rows, n_features)."""
        low, high = X.min(axis=0).astype(float), X.max(axis=0).astype(float)
        return self.fit_moments(low, high, np.array([measure_skewness(column.astype(float)) for column in X.T]))

    def fit_moments(self, low: np.ndarray, high: np.ndarray, skewness: np.ndarray) -> Self:
        """Learn from smallest, largest and skewness of each column, (n_features,)."""
        reach = self.margin * (high - low)
        self.low_, self.high_ = low - reach, high + reach
        self.skewed_ = (np.abs(skewness) > self.threshold) & (low >= 0) & (high > 1)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """Float64 (n_rows, n_features), a new array: what follows may work in place."""
        X = np.clip(X, self.low_, self.high_, dtype=float)
        for position in np.flatnonzero(self.skewed_):
            X[:, position] = take_log(np.maximum(X[:, position], 0))
        return X


class Standardized(TransformerMixin, BaseEstimator):
    """Zero mean and unit variance, column by column and in place: StandardScaler needs three times the memory.

    A column counts for nothing unless at least `least` fitted rows, or a tenth of them where rows are few, have
    another value than the commonest: what a handful of rows decides, a line learns by chance. Least squares does a
    tenth worse with such columns.
    """

    def __init__(self, least: int = 10) -> None:
        self.least = least

    def fit(self, X: np.ndarray, y: object = None) -> Self:
        """Learn mean and standard deviation of each column of (n_rows, n_features)."""
        self.mean_ = X.mean(axis=0)
        spread = np.array([column.std() for column in X.T])
        # A value that nearly all rows share is their median, and a median is found faster than the commonest value.
        differing = np.array([np.count_nonzero(column != np.median(column)) for column in X.T])
        varied = (spread > 0) & (differing >= min(self.least, len(X) // 10))
        self.scale_ = np.where(varied, spread, np.inf)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """X itself, changed."""
        X -= self.mean_
        X /= self.scale_
        return X


class Independent(TransformerMixin, BaseEstimator):
    """Zero for the columns that those before them give away: less than `least` of their variance is new.

    Logs of a product and of its factors differ by a hair; least squares sets huge coefficients against each other
    there, and the next row that is unlike the fitted ones gets an absurd prediction.
    """

    def __init__(self, least: float = 0.001) -> None:
        self.least = least

    def fit(self, X: np.ndarray, y: object = None) -> Self:
        """Learn which columns of centred (n_rows, n_features) to keep, by a Cholesky factorisation that skips some."""
        return self.fit_products(X.T @ X)

    def fit_products(self, products: np.ndarray) -> Self:
        """Learn from X'X, (n_features, n_features)."""
        factor, self.kept_ = np.zeros_like(products), np.zeros(len(products), dtype=bool)
        for j, column in enumerate(products):
            new = column[j] - factor[j] @ factor[j]
            if new > self.least * column[j]:
                self.kept_[j] = True
                factor[:, j] = (column - factor @ factor[j]) / np.sqrt(new)
        return self

    def transform(self, X: np.ndarray) -> np.ndarray:
        """X itself, changed."""
        X[:, ~self.kept_] = 0
        return X


def measure_skewness(values: np.ndarray) -> float:
    """Sample skewness; 0 for a constant."""
    centred = values - values.mean()
    squared = centred * centred  # numpy's ** 3 takes twenty times as long as two products
    variance = float(squared.mean())
    return float((squared * centred).mean()) / variance**1.5 if variance else 0.0


def has_long_tail(target: np.ndarray) -> bool:
    """Whether the log of a target is easier to learn: it is positive, skewed, and its log is less so."""
    if target.min() <= 0:
        return False
    skewness = measure_skewness(target)
    return skewness > LogSkewed().threshold and abs(measure_skewness(np.log1p(target))) < skewness
