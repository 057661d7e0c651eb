"""What a model predicts and by which features, as one picture for MLflow."""

import warnings
from pathlib import Path

import pandas as pd
from matplotlib import rcParams
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

rcParams["text.parse_math"] = False  # no name is a formula

LONGEST = 30  # characters of a feature's name, for which there is room
# Of the three parts: left, bottom, width and height as shares of the picture. To measure them would take as long again.
PLACES = [(0.05, 0.11, 0.25, 0.75), (0.37, 0.11, 0.25, 0.75), (0.79, 0.11, 0.2, 0.75)]


def draw_model(title: str, target: str, predictions: pd.DataFrame, features: pd.DataFrame, path: Path) -> None:
    """Predicted and actual values, residuals and features of one model as one PNG. target: what they are, in words."""
    figure = Figure(figsize=(16, 5))
    figure.suptitle(f"{title}: {target}, {len(predictions)} test rows")
    fit, residuals, bars = map(figure.add_axes, PLACES)
    fit.scatter(predictions["actual"], predictions["predicted"], s=10, alpha=0.6)
    fit.axline((0, 0), slope=1, color="gray", linewidth=1)
    fit.set(title="Predicted and actual", xlabel="actual", ylabel="predicted")
    residuals.scatter(predictions["predicted"], predictions["residual"], s=10, alpha=0.6)
    residuals.axhline(0, color="gray", linewidth=1)
    residuals.set(title="Residuals", xlabel="predicted", ylabel="actual - predicted")
    for axis in (fit.xaxis, fit.yaxis, residuals.xaxis, residuals.yaxis):
        axis.set_major_locator(MaxNLocator(6))
        axis.set_major_formatter(EngFormatter(sep=""))
    names = [name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..." for name in features["feature"]]
    bars.barh(range(len(names), 0, -1), features["weight"], tick_label=names)
    bars.tick_params(axis="y", labelsize=8)
    bars.xaxis.set_major_locator(MaxNLocator(4))
    bars.set(title=f"The {len(features)} features that weigh most", xlabel="coefficient, or share of importance")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # it shows a box for these
        figure.savefig(path, dpi=80)
