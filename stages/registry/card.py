"""The champion's model card: what it is, how good, where it fails, what it is not for, and how to get it again."""

from typing import Any

import joblib
import pandas as pd

from stages.model.metrics import Scores
from stages.shared.files import PREPARED, hash_file, model_file, scores_file
from stages.shared.params import Data, Fit, read_section

WORST = 10


def summarize(report: Scores) -> str:
    """The card in one paragraph."""
    return (
        f"{report['model']}. Test RMSE {report['test_rmse']:,.0f} dollars (95 % interval "
        f"{report['test_rmse_low']:,.0f} to {report['test_rmse_high']:,.0f}), R² {report['test_r2']:.4f} "
        f"({report['test_r2_low']:.3f} to {report['test_r2_high']:.3f}), median error {report['test_mdape']:.1f} %."
    )


def write_card(report: Scores) -> str:
    """Markdown from the files that DVC owns, so that the same results give the same card."""
    path = model_file(report["name"]).as_posix()
    dictionary, md5 = joblib.load(path)["encoder"].dictionary, hash_file(path)
    predictions = pd.read_csv(scores_file(report["name"], "predictions"))
    return f"""# {report["model"]}

{summarize(report)}

## Data

{describe_data(dictionary)}

## Metrics

{tabulate_metrics(report)}

Chosen by `{report["chosen_by"]}`{describe_lead(report)}.

## The {WORST} worst predictions on the test rows

{tabulate_worst(predictions)}

## What it is not for

{list_limits(dictionary)}

## How to get it again

The model is `{path}` with md5 `{md5}`, in the commit that brought this hash into `dvc.lock`:

```bash
git checkout $(git log --all --format=%h -1 -S{md5} -- dvc.lock)
dvc pull {path} || dvc repro
```
"""


def describe_lead(report: Scores) -> str:
    if "runner_up" not in report:
        return ""
    share = f"{report['win_rate']:.0%}"
    return f"; better than `{report['runner_up']}` in {share} of the bootstrap resamples of the test rows"


def describe_data(dictionary: dict[str, Any]) -> str:
    data, fit = read_section(Data), read_section(Fit)
    y = {part: pd.read_parquet(PREPARED / f"y_{part}.parquet") for part in ("train", "test")}
    left_out = int(y["train"]["outlier"].sum()) if fit.drop_outliers else 0
    return f"""- {dictionary.get("about", "A table.")} From `{data.path}` (md5 `{hash_file(data.path)}`).
- Target: `{dictionary["target"]}`, learned as {"log(1 + price)" if fit.log_target else "it stands"}.
- Split: {len(y["train"])} training rows ({left_out} left out of the fit as outliers) and
  {len(y["test"])} test rows, drawn with seed {data.seed}. The test rows chose no feature and no hyperparameter."""


def list_limits(dictionary: dict[str, Any]) -> str:
    return "\n".join(f"- {limit}" for limit in dictionary.get("limits") or ["The dictionary names no limits."])


def tabulate_worst(predictions: pd.DataFrame) -> str:
    """The test rows with the largest absolute residuals. Columns: id, actual, predicted, residual."""
    order = predictions["residual"].abs().sort_values(ascending=False, kind="stable").index
    lines = [f"| {predictions.columns[0]} | actual | predicted | actual - predicted |", "|---|---|---|---|"]
    for row_id, actual, predicted, residual in predictions.loc[order].head(WORST).itertuples(index=False):
        lines.append(f"| {row_id} | {actual:,.0f} | {predicted:,.0f} | {residual:+,.0f} |")
    return "\n".join(lines)


def tabulate_metrics(report: Scores) -> str:
    rows = [
        ("RMSE, dollars", "rmse", ",.0f"),
        ("MAE, dollars", "mae", ",.0f"),
        ("R²", "r2", ".4f"),
        ("RMSLE", "rmsle", ".4f"),
        ("median error, %", "mdape", ".1f"),
    ]
    lines = ["| metric | training rows | cross-validated | test rows | 95 % interval |", "|---|---|---|---|---|"]
    for label, key, form in rows:
        cv = f"{report[f'cv_{key}']:{form}}" if f"cv_{key}" in report else ""
        bounds = ""
        if f"test_{key}_low" in report:
            bounds = f"{report[f'test_{key}_low']:{form}} to {report[f'test_{key}_high']:{form}}"
        lines.append(
            f"| {label} | {report[f'train_{key}']:{form}} | {cv} | {report[f'test_{key}']:{form}} | {bounds} |"
        )
    return "\n".join(lines)
