"""What a model predicts and by which features, as one picture for MLflow."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator


def draw_model(title: str, target: str, predictions: pd.DataFrame, features: pd.DataFrame, path: Path) -> None:
    """Predicted and actual values, residuals and features of one model as one PNG. target: what they are, in words."""
    figure = Figure(figsize=(16, 5), layout="constrained")
    figure.suptitle(f"{title}: {target}, {len(predictions)} test rows")
    fit, residuals, bars = figure.subplots(1, 3)
    fit.scatter(predictions["actual"], predictions["predicted"], s=10, alpha=0.6)
    fit.axline((0, 0), slope=1, color="gray", linewidth=1)
    fit.set(title="Predicted and actual", xlabel="actual", ylabel="predicted")
    residuals.scatter(predictions["predicted"], predictions["residual"], s=10, alpha=0.6)
    residuals.axhline(0, color="gray", linewidth=1)
    residuals.set(title="Residuals", xlabel="predicted", ylabel="actual - predicted")
    for axis in (fit.xaxis, fit.yaxis, residuals.xaxis, residuals.yaxis, bars.xaxis):
        axis.set_major_locator(MaxNLocator(6))
    for axis in (fit.xaxis, fit.yaxis, residuals.xaxis, residuals.yaxis):
        axis.set_major_formatter(EngFormatter(sep=""))
    bars.barh(features["feature"][::-1], features["weight"][::-1])
    bars.tick_params(axis="y", labelsize=8)
    bars.set(title=f"The {len(features)} features that weigh most", xlabel="coefficient, or share of importance")
    figure.savefig(path, dpi=80)
