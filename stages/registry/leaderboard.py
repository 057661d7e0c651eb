"""The table of models that register prints, best first."""

import json
from typing import Any

import numpy as np
from tabulate import tabulate

from stages.model.metrics import (
    METRICS,
    Scores,
    find_cv,
    find_metric,
    is_weak,
    name_cv,
    score_predictions,
    show_amount,
    show_score,
)
from stages.model.results import read_targets
from stages.shared.cli import InputError
from stages.shared.files import metrics_file, model_file, read_json
from stages.shared.git import ask_git

HEADER = ("", "model", "RMSE", "MAE", "R²", "95 % interval", "CV", "fit s", "since commit")


def read_scores(names: list[str]) -> dict[str, Scores]:
    """The current metrics of every model; a file left over from another is not looked at."""
    missing = [str(p) for name in names for p in (metrics_file(name), model_file(name)) if not p.exists()]
    if missing:
        raise InputError(f"{', '.join(missing)}: no such file; run `dvc repro` or `dvc pull` first")
    return {name: read_json(metrics_file(name)) for name in names}


def rank_models(scores: dict[str, Scores], metric: str) -> list[str]:
    """The models' names, best first, and the weak ones last. Raises InputError if they have no such metric."""
    known = [key for key in next(iter(scores.values())) if key.startswith(("train_", "test_", "cv_"))]
    if metric not in known:
        raise InputError(f"params.yaml: register.metric = {metric!r}: no such metric; known: {', '.join(known)}")
    judged = f"test_{find_metric(metric)}"
    if without := [(s["model"], key) for s in scores.values() for key in (judged, metric) if key not in s]:
        raise InputError(
            f"params.yaml: register.metric = {metric!r}: {without[0][0]} has no {without[0][1]}: it means nothing for "
            "these rows; choose another"
        )
    sign = -1 if METRICS[find_metric(metric)].greater_is_better else 1
    return sorted(scores, key=lambda name: (is_weak(scores[name]), sign * scores[name][metric]))


def score_baseline() -> Scores:
    """Test metrics of saying the median of the training rows every time: the zero point of the table."""
    target = read_targets()
    return score_predictions(target["test"], np.full(len(target["test"]), np.median(target["train"])), "test")


def read_committed_scores(name: str) -> Scores | None:
    """A model's metrics in the last commit, or None."""
    shown = ask_git("show", f"HEAD:./{metrics_file(name).as_posix()}")
    return json.loads(shown) if shown else None


def describe_change(scores: Scores, committed: Scores | None) -> str:
    """How test RMSE moved since the last commit, in the target's unit."""
    if committed is None or committed.get("median_rmse") != scores["median_rmse"]:  # none, or of other test rows
        return "new"
    change = scores["test_rmse"] - committed["test_rmse"]
    return "=" if change == 0 else show_amount(change, "+")


def format_leaderboard(
    scores: dict[str, Scores], seconds: dict[str, float | None], baseline: Scores, style: str = "plain"
) -> str:
    """Models in their order, and the baseline, in a style of tabulate's; RMSE and MAE in the target's unit on the test
    rows.
    """
    metric, lines = find_cv(scores.values()), list[tuple[Any, ...]]()
    for rank, (name, s) in enumerate(scores.items(), start=1):
        interval = f"{s['test_r2_low']:.3f} – {s['test_r2_high']:.3f}"
        cv = show_score(metric, s)
        fit = "" if seconds.get(name) is None else f"{seconds[name]:.2f}"
        title = f"{s['model']}{show_sample(s)}{' (weak)' if is_weak(s) else ''}"
        change = describe_change(s, read_committed_scores(name))
        lines.append((rank, title, *format_errors(s), interval, cv, fit, change))
    lines.append(("", "(median)", *format_errors(baseline), "", "", "", ""))
    alignment = ["right", "left", *["right"] * (len(HEADER) - 2)]
    header = [title.replace("CV", name_cv(metric)) for title in HEADER]
    return tabulate(lines, header, style, disable_numparse=True, colalign=alignment)


def show_sample(scores: Scores) -> str:
    """How many rows a model has learned from, if they are a sample."""
    return f" (on {scores['sample_rows']:,} rows)" if "sample_rows" in scores else ""


def format_errors(scores: Scores) -> tuple[str, str, str]:
    return show_amount(scores["test_rmse"]), show_amount(scores["test_mae"]), f"{scores['test_r2']:.4f}"
