"""register: bring MLflow in line with what DVC holds, and the best model into Production.

Reads   params.yaml (register, mlflow, data, fit), metrics/ (champion.json ranks the models), models/, scores/,
        data/prepared/; the raw table and the dictionary for their hashes
Writes  MLflow: the runs and models that it lacks, the versions of the registered model, and which of them serves
"""

from functools import partial
from pathlib import Path

from stages.shared.aside import start_aside, submit
from stages.shared.cli import make_parser, run_command
from stages.shared.files import CARD, CHAMPION, list_folder, metrics_file, read_json, read_yaml
from stages.tracking import store


def list_inputs() -> list[Path]:
    """Every file that register depends on."""
    deps = read_yaml("dvc.yaml")["stages"]["register"]["deps"]
    found = [list_folder(dep, ["__pycache__"]) if Path(dep).is_dir() else [Path(dep)] for dep in deps]
    files = [file for listed in found for file in listed if file.is_file()]
    return [Path("params.yaml"), *map(metrics_file, read_json(CHAMPION)["ranking"]), *sorted(files)]


def register(inputs: list[Path]) -> None:
    """Mirror and promote, print the leaderboard, and remember that all is in line with these inputs."""
    asked = store.hash_files(inputs)  # before any of them is read
    aside = start_aside()  # what models are made of is imported there and MLflow here, at the same time
    for module in ("stages.tracking.models", "skops.io"):
        submit(aside, "importlib.import_module", module)
    from stages.model.metrics import find_metric
    from stages.registry.card import explain_choice
    from stages.registry.leaderboard import format_leaderboard, read_scores, score_baseline
    from stages.registry.lease import hold_registry
    from stages.registry.promotion import find_in_place, register_champion
    from stages.registry.versions import name_model
    from stages.shared.params import Register, read_section
    from stages.tracking.connection import connect, explain_store_errors, within_limit
    from stages.tracking.mirror import MANY, mirror
    from stages.tracking.runs import close_abandoned_runs, log_card

    settings, report = read_section(Register), read_json(CHAMPION)
    find_metric(settings.metric)  # which must be known, also if all is in place
    scores = read_scores(report["ranking"])
    experiment_id = connect()
    with explain_store_errors(), store.lock_store():
        for title in within_limit(partial(close_abandoned_runs, experiment_id)):
            print(f"register: a run of {title} was killed before its end; marked so in MLflow")
        runs = mirror(experiment_id, {name: scores[name]["model"] for name in scores}, aside)
        run = runs[report["name"]]
        log_card(run, CARD)
        done = within_limit(lambda: find_in_place(report, aside), MANY)
        if not done:
            with hold_registry() as require_turn:
                done = within_limit(lambda: register_champion(report, run, settings, aside, require_turn), MANY)
        if store.find_database():
            store.remember_state(asked, list_model_files([run.data.tags for run in runs.values()]))
    seconds = {name: run.data.metrics.get("fit_seconds") for name, run in runs.items()}
    print(f"{report['target']}: {report['n_test']:,} test rows")
    print(format_leaderboard(scores, seconds, score_baseline()))
    print(explain_choice(report, scores).replace("`", ""))
    for line in done:
        print(f"{name_model()}: {line}")


def list_model_files(tags: list[dict[str, str]]) -> list[str]:
    """The files on this machine of the models of runs, by their tags, and of all versions."""
    from stages.registry.versions import list_versions
    from stages.tracking.stored import TRACES, find_local_folder

    held = [*tags, *(version.tags for version in list_versions())]
    ids = sorted({tags["dvc.model_id"] for tags in held if "dvc.model_id" in tags})
    folders = [folder for model_id in ids if (folder := find_local_folder(model_id))]
    return [str(file) for folder in folders for file in list_folder(folder, TRACES)]


def main() -> None:
    make_parser("register", __doc__).parse_args()
    inputs = list_inputs()
    if store.is_in_line(inputs):
        print("register: nothing has changed since MLflow was last brought in line")
        return
    register(inputs)


if __name__ == "__main__":
    run_command(main)
