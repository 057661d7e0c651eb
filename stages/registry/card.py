"""The champion's model card: what it is, how good, where it fails, what it is not for, and how to get it again."""

from typing import Any

import pandas as pd
from tabulate import tabulate

from stages.model.metrics import Scores, find_cv, name_cv, show_amount, show_score
from stages.model.results import load_object, read_fit, read_scores_file, read_table
from stages.shared.files import hash_file, hash_table, model_file
from stages.shared.git import show_way_back
from stages.shared.params import Data, read_section
from stages.table.columns import name_target

WORST = 10
ROWS = {"RMSE": "rmse", "MAE": "mae", "R²": "r2", "RMSLE": "rmsle", "median error, %": "mdape"}

TEMPLATE = """# {title}

{summary}

## Data

{data}

## Metrics

{metrics}

{figures}

## Why this one

{choice}

{models}

## Settings

{settings}

## The {n_worst} worst predictions on the test rows

{worst}

## What it is not for

{limits}

## How to get it again

What serves is `{served}` with md5 `{md5}`, in the commit that brought this hash into `dvc.lock`:

{way_back}
"""
SPLITS = {
    "random": "drawn with seed {seed}",
    "time": "those that come last in `{column}`",
    "group": "whole groups of `{column}`, drawn with seed {seed}",
}


def summarize(report: Scores) -> str:
    """The card in one paragraph."""
    unit = f" {report['unit']}" if report["unit"] else ""
    return (
        f"{report['model']}. Test RMSE {show_amount(report['test_rmse'])}{unit} (95 % interval "
        f"{show_amount(report['test_rmse_low'])} to {show_amount(report['test_rmse_high'])}), "
        f"R² {report['test_r2']:.4f} ({report['test_r2_low']:.3f} to {report['test_r2_high']:.3f})"
        + (f", median error {show_score('test_mdape', report)} %." if "test_mdape" in report else ".")
    )


def write_card(report: Scores, scores: dict[str, Scores]) -> str:
    """Markdown from the files that DVC owns, so that the same results give the same card."""
    from stages.model.estimators import get_settings  # imports scikit-learn, which register can do without for long

    served, judged = model_file("champion").as_posix(), model_file(report["name"]).as_posix()
    pipeline = load_object(judged)
    dictionary = pipeline["encoder"].dictionary
    settings = get_settings(pipeline["estimator"])
    return TEMPLATE.format(
        title=report["model"],
        summary=summarize(report),
        data=describe_data(dictionary, report.get("sample_rows")),
        metrics=tabulate_metrics(report),
        figures=explain_figures(report, judged, served),
        choice=explain_choice(report, scores),
        models=tabulate_models(scores, report["ranking"]),
        settings=", ".join(f"`{key}` {value}" for key, value in settings.items()),
        n_worst=WORST,
        worst=tabulate_worst(read_scores_file(report["name"], "predictions")),
        limits=list_limits(dictionary),
        served=served,
        md5=hash_file(served),
        way_back=show_way_back(served, hash_file(served)),
    )


def explain_figures(report: Scores, judged: str, served: str) -> str:
    if not report["refit"]:
        return f"The figures are those of `{judged}`, whose bytes serve as `{served}`."
    return f"""The figures are those of `{judged}`, which has learned from the training rows only. What serves is
`{served}`: the same settings, fitted again on training and test rows together. On those rows it cannot be
judged any more; on rows that neither has seen, more rows to learn from are expected to help a little."""


def explain_choice(report: Scores, scores: dict[str, Scores]) -> str:
    """By which metric, with which lead, and what cross-validation would have chosen."""
    said = f"Chosen by `{report['chosen_by']}`"
    if "runner_up" in report:
        share = f"{report['win_rate']:.0%}"
        said += f"; better than `{report['runner_up']}` in {share} of the bootstrap resamples of the test rows"
    return f"{said}. {compare_with_cv(report, scores)}".rstrip()


def compare_with_cv(report: Scores, scores: dict[str, Scores]) -> str:
    """Whether cross-validation, which sees all training rows, agrees with the choice; nothing without it."""
    metric, key = find_cv(scores.values()), report["chosen_by"]
    if not all(metric in s for s in scores.values()):
        return ""
    best = min(scores, key=lambda name: scores[name][metric])
    if best == report["name"]:
        return f"Cross-validation ({name_cv(metric).removeprefix('CV ')}) would have chosen it too."
    return (
        f"Cross-validation would have chosen {scores[best]['model']}: {name_cv(metric)} "
        f"{show_score(metric, scores[best])} against {show_score(metric, report)}, {key} "
        f"{show_score(key, scores[best])} against {show_score(key, report)}."
    )


def describe_data(dictionary: dict[str, Any], sample_rows: int | None) -> str:
    """The table, the target and the split. sample_rows: how many rows the model has learned from, if not from all."""
    data, fit = read_section(Data), read_fit()
    train, test = (len(read_table(f"y_{part}")) for part in ("train", "test"))
    kind, column = ("random", "") if data.split == "random" else next(iter(data.split.items()))
    split = SPLITS[kind].format(seed=data.seed, column=column)
    md5 = "" if "://" in data.path else f" (md5 `{hash_table(data.path)}`)"
    told = "No row is left out of a fit or of a\n  score."
    if sample_rows:
        told = f"The model was fitted on {sample_rows:,} of the training rows; no row is left\n  out of a score."
    return f"""- {dictionary.get("about", "A table.")} From `{data.path}`{md5}.
- Target: {name_target(dictionary)}, learned as {"log(1 + x)" if fit.log_target else "it stands"}.
- Split: {train} training rows and {test} test rows, {split}. {told} \
The test rows chose no feature and no hyperparameter."""


def list_limits(dictionary: dict[str, Any]) -> str:
    return "\n".join(f"- {limit}" for limit in dictionary.get("limits") or ["The dictionary names no limits."])


def tabulate_worst(predictions: pd.DataFrame) -> str:
    """The test rows with the largest absolute residuals. Columns: id, actual, predicted, residual."""
    order = predictions["residual"].abs().sort_values(ascending=False, kind="stable").index
    worst = predictions.loc[order].head(WORST).itertuples(index=False)
    lines = [
        [row_id, show_amount(actual), show_amount(said), show_amount(residual, "+")]
        for row_id, actual, said, residual in worst
    ]
    return format_table(lines, [predictions.columns[0], "actual", "predicted", "actual - predicted"])


def tabulate_metrics(report: Scores) -> str:
    lines = []
    for label, name in ROWS.items():
        if f"test_{name}" not in report:
            continue
        bounds = [show_score(f"test_{name}_{end}", report) for end in ("low", "high")]
        shown = [show_score(f"{part}_{name}", report) for part in ("train", "cv", "test")]
        lines.append([label, *shown, " to ".join(filter(None, bounds))])
    return format_table(lines, ["metric", "training rows", "cross-validated", "test rows", "95 % interval"])


def tabulate_models(scores: dict[str, Scores], ranking: list[str]) -> str:
    metric = find_cv(scores.values())
    lines = [
        [
            s["model"],
            show_score(metric, s),
            show_score("test_rmse", s),
            f"{s['test_r2']:.4f}",
            f"{s['test_r2_low']:.3f} to {s['test_r2_high']:.3f}",
        ]
        for s in (scores[name] for name in ranking)
    ]
    return format_table(lines, ["model", name_cv(metric), "test RMSE", "test R²", "95 % interval"])


def format_table(lines: list[list[Any]], header: list[str]) -> str:
    return tabulate(lines, header, "github", disable_numparse=True)
