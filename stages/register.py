"""register: bring MLflow in line with what DVC holds, and the best model into Production.

Reads   params.yaml (register), dvc.yaml (the models' names), metrics/, models/, plots/, data/prepared/
Writes  metrics/champion.json and .md, the runs that MLflow lacks, and the versions of the registered model
"""

from typing import Any

from stages import store
from stages.edge import InputError, run_stage
from stages.files import metrics_file, model_file, plot_file, read_json, read_yaml, write_json, write_whole

Scores = dict[str, Any]
CHAMPION = metrics_file("champion")
CARD = CHAMPION.with_suffix(".md")


def read_metrics(names: list[str]) -> dict[str, Scores]:
    """The current metrics of every model; a file left over from another is not looked at."""
    missing = [str(p) for name in names for p in (metrics_file(name), model_file(name)) if not p.exists()]
    if missing:
        raise InputError(f"{', '.join(missing)}: no such file; run `dvc repro` or `dvc pull` first")
    return {name: read_json(metrics_file(name)) for name in names}


def check_metric(metric: str, scores: dict[str, Scores]) -> bool:
    """Whether a larger value of the metric is better. Raises InputError if no model has such a metric."""
    from stages.scoring import METRICS

    known = [key for key in next(iter(scores.values())) if key.rpartition("_")[2] in METRICS]
    if metric not in known:
        raise InputError(f"params.yaml: register.metric = {metric!r}: no such metric; known: {', '.join(known)}")
    return METRICS[metric.rpartition("_")[2]].greater_is_better


def find_lead(champion: str, runner_up: str, metric: str, seed: int) -> float:
    """In which share of paired resamples of the test rows the champion beats the runner-up."""
    import pandas as pd

    from stages.scoring import share_won

    first, second = (pd.read_csv(plot_file(name, "predictions")) for name in (champion, runner_up))
    return share_won(
        first["actual"].to_numpy(), first["predicted"].to_numpy(), second["predicted"].to_numpy(), metric, seed
    )


def register(names: list[str]) -> list[str]:
    """Rank, mirror and promote, and print the leaderboard; gives the files that MLflow keeps of the runs."""
    from stages import registry, tracking
    from stages.card import summarize, write_card
    from stages.leaderboard import format_leaderboard, score_baseline
    from stages.params import Fit, Register, read_section
    from stages.promotion import mirror_runs, register_champion

    settings, fit = read_section(Register), read_section(Fit)
    scores = read_metrics(names)
    greater_is_better = check_metric(settings.metric, scores)
    ranked = sorted(scores, key=lambda name: scores[name][settings.metric], reverse=greater_is_better)
    champion, runner_up = ranked[0], ranked[1] if len(ranked) > 1 else ranked[0]
    lead = find_lead(champion, runner_up, settings.metric.rpartition("_")[2], fit.seed)
    report = {"name": champion, **scores[champion], "chosen_by": settings.metric}
    report |= {"runner_up": runner_up, "better_in_share_of_resamples": lead}
    tracking.connect()
    with tracking.explain_store_errors(), tracking.lock_store():
        for title in tracking.close_abandoned_runs():
            print(f"register: a run of {title} was killed before its end; marked so in MLflow")
        runs = mirror_runs(scores)
        with write_whole(CARD) as part:
            part.write_text(write_card(report))
        tracking.log_card(runs[champion], CARD)
        done = register_champion(champion, runs[champion], scores[champion], settings, summarize(report))
        kept = tracking.find_local_files(runs.values())
    write_json(CHAMPION, report)
    seconds = {name: run.data.metrics.get("fit_seconds") for name, run in runs.items()}
    print(format_leaderboard(ranked, scores, seconds, score_baseline()))
    print(
        f"{scores[champion]['model']} beats {scores[runner_up]['model']} in {lead:.0%} of resamples of the test rows."
    )
    for line in done:
        print(f"{registry.REGISTERED_MODEL}: {line}")
    return kept


def main() -> None:
    stages = read_yaml("dvc.yaml")["stages"]
    names = stages["train"]["foreach"]
    inputs = ["params.yaml", "dvc.yaml", CHAMPION, CARD, *map(metrics_file, names), *stages["register"]["deps"]]
    if store.is_settled(inputs):
        print("register: nothing has changed since MLflow was last brought in line")
        return
    kept = register(names)
    store.settle(inputs, kept)


if __name__ == "__main__":
    run_stage(main)
