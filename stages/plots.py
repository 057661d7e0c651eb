"""What a fitted model shows of itself, as tables for `dvc plots` and as one picture for MLflow."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.pipeline import Pipeline

from stages.models import find_regressor
from stages.scoring import rmse

TOP = 20
POINTS = 50

# Boosters, and how each is asked to predict with its first trees only; scikit-learn's has staged_predict.
STAGED: dict[str, Callable[[int], dict[str, Any]] | None] = {
    "GradientBoostingRegressor": None,
    "XGBRegressor": lambda trees: {"iteration_range": (0, trees)},
    "LGBMRegressor": lambda trees: {"num_iteration": trees},
}


def tabulate_predictions(y: pd.Series, predicted: np.ndarray) -> pd.DataFrame:
    """Id, actual price, predicted price and residual of each row, in dollars."""
    return pd.DataFrame({"actual": y, "predicted": predicted, "residual": y - predicted}).round(2).reset_index()


def rank_features(pipeline: Pipeline) -> pd.DataFrame:
    """The features that weigh most: coefficients on scaled inputs, or each feature's share of the trees' importance."""
    regressor = find_regressor(pipeline)
    if hasattr(regressor, "coef_"):
        weights = np.ravel(regressor.coef_)
    else:
        weights = regressor.feature_importances_ / max(regressor.feature_importances_.sum(), 1e-12)
    table = pd.DataFrame({"feature": pipeline["encoder"].get_feature_names_out(), "weight": weights})
    order = table["weight"].abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order].head(TOP).round(6)


def bound_rmse(metrics: dict[str, float]) -> pd.DataFrame:
    """Test RMSE in dollars with its interval, as one line."""
    return pd.DataFrame(
        [{"rmse": metrics["test_rmse"], "low": metrics["test_rmse_low"], "high": metrics["test_rmse_high"]}]
    )


def trace_learning(pipeline: Pipeline, sides: dict[str, tuple[pd.DataFrame, np.ndarray]]) -> pd.DataFrame:
    """RMSE in dollars after every so many trees of a booster, for each side's raw rows and prices.

    No lines for a model that is no booster.
    """
    lines = []
    if type(find_regressor(pipeline)).__name__ in STAGED:
        back = getattr(pipeline["estimator"], "inverse_func", None) or (lambda values: values)
        for side, (rows, y) in sides.items():
            X = pipeline["encoder"].transform(rows)
            for iteration, predicted in predict_in_steps(find_regressor(pipeline), X):
                lines.append((side, iteration, round(float(rmse(y, back(predicted))), 2)))
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


def draw_model(
    title: str, predictions: pd.DataFrame, features: pd.DataFrame, learning: pd.DataFrame, path: Path
) -> None:
    """The tables of one model as panels of one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(14, 10), layout="constrained")
    panels = figure.subplots(2, 2).ravel()
    figure.suptitle(f"{title}: {len(predictions)} test rows")
    thousands = predictions[["actual", "predicted", "residual"]] / 1000
    panels[0].scatter(thousands["actual"], thousands["predicted"], s=10, alpha=0.6)
    panels[0].axline((0, 0), slope=1, color="gray", linewidth=1)
    panels[0].set(title="Predicted and actual price", xlabel="actual price (1000 $)", ylabel="predicted price (1000 $)")
    panels[1].scatter(thousands["predicted"], thousands["residual"], s=10, alpha=0.6)
    panels[1].axhline(0, color="gray", linewidth=1)
    panels[1].set(title="Residuals", xlabel="predicted price (1000 $)", ylabel="actual - predicted (1000 $)")
    bars = features.iloc[::-1]
    panels[2].barh(bars["feature"], bars["weight"])
    panels[2].set(title=f"The {len(features)} features that weigh most", xlabel="coefficient, or share of importance")
    draw_learning(panels[3], learning)
    figure.savefig(path, dpi=70)


def draw_learning(panel: Any, learning: pd.DataFrame) -> None:
    if learning.empty:
        panel.set_visible(False)
        return
    for part, lines in learning.groupby("rows", sort=False):
        panel.plot(lines["iteration"], lines["rmse"] / 1000, label=f"{part} rows")
    panel.set(title="Learning curve", xlabel="trees", ylabel="RMSE (1000 $)", yscale="log")
    panel.legend()
