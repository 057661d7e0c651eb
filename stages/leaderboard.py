"""The table of models that register prints, best first."""

import json
import subprocess
from typing import Any

import numpy as np
import pandas as pd

from stages.files import PREPARED, metrics_file
from stages.scoring import score_predictions

Scores = dict[str, Any]
HEADER = ("", "model", "RMSE", "MAE", "R²", "95 % interval", "CV RMSLE", "fit s", "since commit")


def score_baseline() -> Scores:
    """Test metrics of saying the median training price every time: the zero point of the table."""
    y_train, y_test = (pd.read_parquet(PREPARED / f"y_{part}.parquet")["target"] for part in ("train", "test"))
    return score_predictions(y_test.to_numpy(), np.full(len(y_test), y_train.median()), "test")


def read_committed(name: str) -> Scores | None:
    """A model's metrics in the last commit, or None."""
    shown = subprocess.run(
        ["git", "show", f"HEAD:./{metrics_file(name).as_posix()}"], capture_output=True, text=True, check=False
    )
    return json.loads(shown.stdout) if shown.returncode == 0 else None


def describe_change(scores: Scores, committed: Scores | None) -> str:
    """How test RMSE moved since the last commit, in dollars."""
    if committed is None:
        return "new"
    change = scores["test_rmse"] - committed["test_rmse"]
    return "=" if change == 0 else f"{change:+,.0f} $"


def format_leaderboard(
    ranked: list[str], scores: dict[str, Scores], seconds: dict[str, float | None], baseline: Scores
) -> str:
    """Models in the given order, and the baseline, as aligned text; RMSE and MAE in dollars on the test rows."""
    lines = [HEADER]
    for rank, name in enumerate(ranked, start=1):
        s, fit_seconds = scores[name], seconds.get(name)
        lines.append(
            (
                str(rank),
                s["model"],
                f"{s['test_rmse']:,.0f}",
                f"{s['test_mae']:,.0f}",
                f"{s['test_r2']:.4f}",
                f"{s['test_r2_low']:.3f} – {s['test_r2_high']:.3f}",
                f"{s['cv_rmsle']:.4f}" if "cv_rmsle" in s else "",
                "" if fit_seconds is None else f"{fit_seconds:.2f}",
                describe_change(s, read_committed(name)),
            )
        )
    b = baseline
    lines.append(
        ("", "(median price)", f"{b['test_rmse']:,.0f}", f"{b['test_mae']:,.0f}", f"{b['test_r2']:.4f}", "", "", "", "")
    )
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
    return "\n".join(
        "  ".join(
            cell.ljust(w) if column == 1 else cell.rjust(w)
            for column, (cell, w) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )
