"""The models by the names of their sections in params.yaml. Imports none of their libraries."""

from typing import NamedTuple

from stages.shared.cli import InputError


class Model(NamedTuple):
    """What a model is called in MLflow, the class that fits it, and whether it is linear in its inputs."""

    title: str
    module: str
    regressor: str
    linear: bool = False


MODELS = {
    "linear": Model("Linear Regression", "sklearn.linear_model", "LinearRegression", linear=True),
    "ridge": Model("Ridge Regression", "sklearn.linear_model", "Ridge", linear=True),
    "lasso": Model("Lasso Regression", "sklearn.linear_model", "Lasso", linear=True),
    "decision_tree": Model("Decision Tree", "sklearn.tree", "DecisionTreeRegressor"),
    "random_forest": Model("Random Forest", "sklearn.ensemble", "RandomForestRegressor"),
    "gradient_boosting": Model("Gradient Boosting", "sklearn.ensemble", "GradientBoostingRegressor"),
    "xgboost": Model("XGBoost", "xgboost", "XGBRegressor"),
    "lightgbm": Model("LightGBM", "lightgbm", "LGBMRegressor"),
}

BLEND = "Blend"  # the title of their weighted mean


def require_model(name: str) -> Model:
    """Raises InputError for a name that is none of the models'."""
    if name not in MODELS:
        raise InputError(f"unknown model {name!r}; known: {', '.join(MODELS)}")
    return MODELS[name]


def require_models(names: list[str]) -> list[str]:
    """The names. Raises InputError if one is none of the models', or stands twice."""
    for name in names:
        require_model(name)
    if len(set(names)) < len(names):
        raise InputError(f"--models {' '.join(names)}: a model stands twice")
    return names
