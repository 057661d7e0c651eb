"""What a candidate reads and leaves behind: prepared tables in; model, metrics and tables of predictions out."""

import json
import time
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import joblib
import numpy as np
import pandas as pd

from stages.model.metrics import METRICS, Scores, bootstrap_intervals, is_weak, rmse, score_predictions
from stages.shared.files import (
    DAMAGED,
    PREPARED,
    TARGET,
    describe_damage,
    hash_file,
    metrics_file,
    model_file,
    read_json,
    require_file,
    scores_folder,
    write_json,
    write_text,
    write_whole,
)
from stages.shared.params import Fit, read_section

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

Parts = dict[str, np.ndarray]  # of the training and the test rows
PARTS = ("train", "test")
TYPES = {"actual": float, "predicted": float, "residual": float, "weight": float, "iteration": int, "rmse": float}
SAMPLE = 10_000  # rows that are enough for a predict time or a learning curve


def read_table(name: str) -> pd.DataFrame:
    """One of the tables that prepare wrote. Raises InputError if it has not run, or if the table is damaged."""
    files = list_files(name)
    return read_file(files[0]) if len(files) == 1 else pd.concat(map(read_file, files))


def list_files(name: str) -> list[Path]:
    """The file of one of the tables that prepare wrote, or, if that was on a cluster, the files of its parts."""
    path = PREPARED / f"{name}.parquet"
    return sorted(path.iterdir()) if path.is_dir() else [require_file(path)]


def read_file(path: Path) -> pd.DataFrame:
    """A table, or a part of one. Raises InputError if it is damaged."""
    try:
        return pd.read_parquet(path)
    except DAMAGED as error:
        raise describe_damage(path, error) from None


def load_object(path: str | Path) -> Any:
    """An encoder or a model that a stage wrote. Raises InputError if it is missing or damaged."""
    require_file(path)
    try:
        return joblib.load(path)
    except DAMAGED as error:
        raise describe_damage(path, error) from None


def read_scores_file(name: str, kind: str) -> pd.DataFrame:
    """One of the tables in `scores_folder`. Raises InputError if it is missing or damaged."""
    path = require_file(scores_folder(name) / f"{kind}.csv")
    try:
        return pd.read_csv(path, keep_default_na=False, dtype=defaultdict(lambda: str, TYPES))
    except DAMAGED as error:
        raise describe_damage(path, error) from None


def read_description(name: str) -> dict[str, Any]:
    """The `describe_pipeline` of a model, and its md5. Raises InputError if it is missing or damaged."""
    return read_json(scores_folder(name) / "model.json")


def read_targets() -> Parts:
    """The target of both parts, each (n_rows,)."""
    return {part: read_table(f"y_{part}")["target"].to_numpy() for part in PARTS}


def read_apart() -> pd.Series | None:
    """What `data.split` keeps apart, (n_rows,) of the training rows: their `group` or their `time`; None for chance."""
    table = read_table("y_train")
    return next((table[name] for name in ("group", "time") if name in table), None)


def read_fit() -> Fit:
    """The section `fit` of params.yaml, with what prepare chose for `log_target: auto`."""
    fit = read_section(Fit)
    return fit.model_copy(update=read_json(TARGET)) if fit.log_target == "auto" else fit


def read_features(part: str) -> np.ndarray:
    """Encoded rows, float32 (n_rows, n_features)."""
    return read_table(f"X_{part}").to_numpy()


def score_parts(target: Parts, predicted: Parts, seed: int, title: str) -> Scores:
    """Every metric on training and test rows, intervals on the test rows, and `median_rmse`: what saying the median of
    the training rows every time would score, which tells weak models, and by which results of other test rows show.
    """
    scores: Scores = {"model": title}
    for part in PARTS:
        scores |= score_predictions(target[part], predicted[part], part)
    scores["median_rmse"] = METRICS["rmse"].round(rmse(target["test"], np.median(target["train"])))
    return scores | bootstrap_intervals(target["test"], predicted["test"], "test", seed)


def tabulate_predictions(part: str, predicted: np.ndarray) -> pd.DataFrame:
    """Id, actual value, prediction and residual of each row of a part."""
    actual = read_table(f"y_{part}")["target"]
    table = pd.DataFrame({"actual": actual, "predicted": predicted, "residual": actual - predicted})
    name = actual.index.name or "row"
    table.insert(0, f"{name} (id)" if name in TYPES else name, actual.index)
    return table


def write_results(name: str, pipeline: "Pipeline", scores: Scores, tables: dict[str, pd.DataFrame]) -> None:
    """Model, metrics and tables, each whole or not at all. Eight digits are the same on every processor.

    Beside the tables stands what MLflow shows of the model, so that it can be logged without being loaded, and its
    md5, so that a stage that depends on the tables depends on the model too: it cannot depend on the folder of the
    models, since it writes one of them.
    """
    with write_whole(model_file(name)) as part:
        joblib.dump(pipeline, part)
    with write_whole(scores_folder(name)) as folder:
        folder.mkdir()
        for kind, table in tables.items():
            write_csv(table, folder / f"{kind}.csv")
        about = {"model_md5": hash_file(model_file(name)), **describe_pipeline(pipeline)}
        write_text(folder / "model.json", json.dumps(about, indent=2) + "\n")
    write_json(metrics_file(name), scores)


def write_csv(table: pd.DataFrame, path: Path) -> None:
    """A table of results with eight digits, in the same bytes on every system."""
    table.to_csv(path, index=False, float_format="%.8g", lineterminator="\n")


def describe_pipeline(pipeline: "Pipeline") -> dict[str, dict[str, str]]:
    """What MLflow shows of a fitted pipeline: its parameters, and the type of each raw column that it takes."""
    from stages.model.estimators import get_settings

    params = {key: str(value) for key, value in get_settings(pipeline["estimator"]).items()}
    return {"params": params, "columns": name_types(pipeline)}


def name_types(pipeline: "Pipeline") -> dict[str, str]:
    """The raw columns that a pipeline takes, in MLflow's types. Decimal, so that one may be missing."""
    columns = pipeline["encoder"].columns_
    return {name: "double" if column.is_number else "string" for name, column in columns.items()}


def time_pipeline(pipeline: "Pipeline") -> float:
    """Seconds from a raw row to its prediction, when many come at once."""
    rows = read_file(list_files("rows_test")[0]).head(SAMPLE)
    started = time.perf_counter()
    pipeline.predict(rows)
    return (time.perf_counter() - started) / len(rows)


def describe_scores(name: str, scores: Scores) -> str:
    return (
        f"{name}: on the test rows RMSE {scores['test_rmse']:,.6g}, MAE {scores['test_mae']:,.6g}, "
        f"R² {scores['test_r2']:.4f}{'; no better than the median' if is_weak(scores) else ''}"
    )
