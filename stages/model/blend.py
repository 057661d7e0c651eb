"""A blend: a weighted mean of the models that are nearly as good as the best, chosen out of fold.

Every logged model carries a copy of this file, so it imports nothing but numpy and scikit-learn.
"""

from typing import Self

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin, clone

STEPS = 10  # members that greedy selection may take, with repetition


class Blend(RegressorMixin, BaseEstimator):
    """The weighted mean of what its members predict from encoded features; of its logs, if the target was logged.

    Parameters
    ----------
    members : the name and estimator of each.
    weights : a weight for each member; they add up to 1.
    log_target : whether the mean is geometric.
    """

    def __init__(self, members: list[tuple[str, BaseEstimator]], weights: list[float], log_target: bool) -> None:
        self.members = members
        self.weights = weights
        self.log_target = log_target

    def fit(self, X: np.ndarray, y: np.ndarray) -> Self:
        """Fit every member on encoded rows, (n_rows, n_features), and the target."""
        self.fitted_ = [clone(member).fit(X, y) for _, member in self.members]
        return self

    def predict(self, X: np.ndarray) -> np.ndarray:
        """The target of each row, (n_rows,)."""
        return weigh([member.predict(X) for member in self.fitted_], self.weights, self.log_target)


def weigh(predicted: list[np.ndarray], weights: list[float], log_target: bool) -> np.ndarray:
    """The weighted mean of predictions, each (n_rows,); of their logs, as log(1 + x), if the target was logged."""
    if log_target:
        predicted = [np.log1p(np.maximum(values, 0), dtype=float) for values in predicted]
    mean = np.tensordot(weights, np.stack(predicted), axes=1)
    return np.expm1(mean) if log_target else mean


def choose_weights(target: np.ndarray, predicted: np.ndarray, within: float) -> np.ndarray:
    """Weights (n_models,) by greedy selection from the models at most `within` worse than the best.

    target (n_rows,) and predicted (n_models, n_rows) are out-of-fold, in the space in which errors count. It starts
    at the best model, and of its steps the best is kept, so that it is never worse than that model on these rows.
    Source: R. Caruana et al., Ensemble Selection from Libraries of Models, ICML 2004.
    """
    errors = np.sqrt(np.mean((predicted - target) ** 2, axis=1))
    allowed = np.flatnonzero(errors <= (1 + within) * errors.min())
    counts = np.zeros(len(predicted))
    best, best_error = counts, np.inf
    for _ in range(STEPS):
        total = counts @ predicted
        means = (total + predicted[allowed]) / (counts.sum() + 1)
        scores = np.sqrt(np.mean((means - target) ** 2, axis=1)).round(9)  # last bits differ by processor
        counts = counts + np.eye(len(predicted))[allowed[scores.argmin()]]
        if scores.min() < best_error:
            best, best_error = counts / counts.sum(), scores.min()
    return best
