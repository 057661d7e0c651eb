"""champion: rank the current results, and say of the best what it is, how good, and where it fails.

Reads   params.yaml (register.metric, data, fit), metrics/, models/, scores/, data/prepared/
Writes  metrics/champion.json, its model card metrics/champion.md, and plots/: the tables that `dvc plots` draws
"""

import pandas as pd

from stages.model.metrics import Scores, estimate_win_rate, find_metric
from stages.registry.card import write_card
from stages.registry.leaderboard import rank_models, read_scores
from stages.shared.cli import make_parser, run_command
from stages.shared.files import CARD, CHAMPION, plot_file, scores_file, write_json, write_whole
from stages.shared.params import Fit, Register, read_section


def compare_first_two(ranked: list[str], metric: str, seed: int) -> Scores:
    """The runner-up, and the share of resamples of the test rows in which the champion beats it."""
    if len(ranked) < 2:
        return {}
    first, second = (pd.read_csv(scores_file(name, "predictions")) for name in ranked[:2])
    arrays = first["actual"].to_numpy(), first["predicted"].to_numpy(), second["predicted"].to_numpy()
    return {"runner_up": ranked[1], "win_rate": estimate_win_rate(*arrays, metric, seed)}


def tabulate_plots(ranked: list[str], scores: dict[str, Scores]) -> dict[str, pd.DataFrame]:
    """One table for each plot, with all models in the order of the leaderboard."""
    tables = {
        kind: pd.concat([pd.read_csv(scores_file(n, kind)).assign(model=scores[n]["model"]) for n in ranked])
        for kind in ("predictions", "features", "learning")
    }
    keys = {"model": "model", "rmse": "test_rmse", "low": "test_rmse_low", "high": "test_rmse_high"}
    tables["rmse"] = pd.DataFrame([{column: scores[n][key] for column, key in keys.items()} for n in ranked])
    return tables


def main() -> None:
    parser = make_parser("champion", __doc__, "--models ridge xgboost")
    parser.add_argument("--models", nargs="+", required=True, help="those that dvc.yaml lists")
    scores = read_scores(parser.parse_args().models)
    settings, fit = read_section(Register), read_section(Fit)
    ranked = rank_models(scores, settings.metric)
    report = {"name": ranked[0], **scores[ranked[0]], "chosen_by": settings.metric, "ranking": ranked}
    report |= compare_first_two(ranked, find_metric(settings.metric), fit.seed)
    for kind, table in tabulate_plots(ranked, scores).items():
        with write_whole(plot_file(kind)) as part:
            table.to_csv(part, index=False)
    with write_whole(CARD) as part:
        part.write_text(write_card(report))
    write_json(CHAMPION, report)
    print(f"champion: {report['model']}, by {settings.metric} {report[settings.metric]}")


if __name__ == "__main__":
    run_command(main)
