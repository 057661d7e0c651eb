"""The models by the names of their sections in params.yaml. Imports none of their libraries."""

from typing import NamedTuple

from stages.shared.cli import InputError


class Model(NamedTuple):
    """What a model is called in MLflow and its colour in charts there, the class that fits it, and whether it is linear
    in its inputs.
    """

    title: str
    module: str
    regressor: str
    colour: str = "#7f7f7f"
    linear: bool = False


MODELS = {
    "linear": Model("Linear Regression", "sklearn.linear_model", "LinearRegression", "#1f77b4", linear=True),
    "ridge": Model("Ridge Regression", "sklearn.linear_model", "Ridge", "#17becf", linear=True),
    "lasso": Model("Lasso Regression", "sklearn.linear_model", "Lasso", "#393b79", linear=True),
    "decision_tree": Model("Decision Tree", "sklearn.tree", "DecisionTreeRegressor", "#bcbd22"),
    "random_forest": Model("Random Forest", "sklearn.ensemble", "RandomForestRegressor", "#2ca02c"),
    "gradient_boosting": Model("Gradient Boosting", "sklearn.ensemble", "GradientBoostingRegressor", "#8c564b"),
    "xgboost": Model("XGBoost", "xgboost", "XGBRegressor", "#d62728"),
    "lightgbm": Model("LightGBM", "lightgbm", "LGBMRegressor", "#ff7f0e"),
}

BLEND = "Blend"  # the title of their weighted mean, and its colour
BLEND_COLOUR = "#9467bd"


def require_model(name: str) -> Model:
    """The model of this name. Raises InputError if there is none."""
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    return MODELS[name]


def require_models(names: list[str]) -> list[str]:
    """The names. Raises InputError if there are none, or if one is none of the models', or stands twice."""
    if not names:
        raise InputError(f"dvc.yaml: no models are listed under vars: train; known: {', '.join(MODELS)}")
    for name in names:
        require_model(name)
    if len(set(names)) < len(names):
        raise InputError(f"models {' '.join(names)}: one stands twice")
    return names
