"""What a fitted model shows of itself, as tables for `dvc plots`."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from stages.model.estimators import find_regressor
from stages.model.metrics import METRICS, rmse

TOP = 20
POINTS = 25

# Boosters, and how each is asked to predict with its first trees only; scikit-learn's has staged_predict.
STAGED: dict[str, Callable[[int], dict[str, Any]] | None] = {
    "GradientBoostingRegressor": None,
    "XGBRegressor": lambda trees: {"iteration_range": (0, trees)},
    "LGBMRegressor": lambda trees: {"num_iteration": trees},
}


def rank_features(pipeline: Pipeline) -> pd.DataFrame:
    """The features that weigh most: coefficients on scaled inputs, or each feature's share of the trees' importance."""
    regressor = find_regressor(pipeline["estimator"])
    if hasattr(regressor, "coef_"):
        weights = np.ravel(regressor.coef_)
    else:
        weights = regressor.feature_importances_ / max(regressor.feature_importances_.sum(), 1e-12)
    table = pd.DataFrame({"feature": pipeline["encoder"].get_feature_names_out(), "weight": weights})
    order = table["weight"].abs().sort_values(ascending=False, kind="stable").index
    table = table.loc[order].head(TOP)
    return table.assign(weight=table["weight"].map(METRICS["rmsle"].round))


def trace_learning(estimator: BaseEstimator, sides: dict[str, tuple[np.ndarray, np.ndarray]]) -> pd.DataFrame:
    """RMSE after every so many trees of a booster, for each side's encoded rows and target.

    No lines for a model that is no booster.
    """
    regressor, lines = find_regressor(estimator), []
    if type(regressor).__name__ in STAGED:
        back = getattr(estimator, "inverse_func", None) or (lambda values: values)
        for side, (X, y) in sides.items():
            for iteration, predicted in predict_in_steps(regressor, X):
                lines.append((side, iteration, METRICS["rmse"].round(rmse(y, back(predicted)))))
    return pd.DataFrame(lines, columns=["rows", "iteration", "rmse"])


def predict_in_steps(regressor: BaseEstimator, X: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Number of trees, and what they alone predict for X, about POINTS times from few trees to all."""
    steps = sorted({max(1, round(step)) for step in np.linspace(0, regressor.n_estimators, POINTS + 1)[1:]})
    option = STAGED[type(regressor).__name__]
    if option is None:
        staged = enumerate(regressor.staged_predict(X), start=1)
        yield from ((trees, predicted) for trees, predicted in staged if trees in steps)
    else:
        yield from ((trees, regressor.predict(X, **option(trees))) for trees in steps)
