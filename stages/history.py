"""history: what links MLflow and DVC, shown from either side; the promotions, and the way back.

python -m stages.history show <md5 | run id | model version>
python -m stages.history list
python -m stages.history rollback [version]
"""

from datetime import UTC, datetime

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from stages.registry import versions as registry
from stages.registry.lease import hold_registry
from stages.shared.cli import InputError, make_parser, run_command
from stages.shared.files import model_file
from stages.shared.git import ask_git
from stages.shared.params import Mlflow, read_section
from stages.tracking.connection import connect, explain_store_errors
from stages.tracking.runs import has_run, read_provenance


def find_commits(md5: str) -> list[str]:
    """Commits whose dvc.lock brought in an md5, newest first, on any branch or experiment."""
    shown = ask_git("log", "-m", "--exclude=refs/exps/exec/*", "--all", "--format=%h", f"-S{md5}", "--", "dvc.lock")
    return [commit for commit in shown.split() if md5 in ask_git("show", f"{commit}:./dvc.lock")]


def describe_way_back(name: str, md5: str, experiment: str | None) -> list[str]:
    """The lines that bring a model's file with this md5 back into the workspace, and what it was made from."""
    commits, path = find_commits(md5), model_file(name).as_posix()
    if commits:
        return [
            f"  git checkout {commits[0]} -- dvc.lock dvc.yaml params.yaml",
            f"  dvc checkout {path} || dvc pull {path}",
        ]
    if experiment:
        return [f"  dvc exp apply {experiment}"]
    return [f"  # no commit holds this result: its bytes are .dvc/cache/files/md5/{md5[:2]}/{md5[2:]}"]


def describe_run(run: Run, versions: list[ModelVersion]) -> list[str]:
    """A run, what it was made from, the versions of its model, and the lines that bring the files of all back."""
    tags, md5 = run.data.tags, run.data.tags["dvc.model_md5"]
    shown = [f"{key} {run.data.metrics[key]:g}" for key in ("test_rmse", "test_r2") if key in run.data.metrics]
    held = [v for v in versions if md5 in (v.tags.get("dvc.judged_md5"), v.tags.get(registry.SERVED))]
    served = {v.tags[registry.SERVED]: v for v in held if v.tags.get(registry.SERVED, md5) != md5}
    provenance = read_provenance(run)
    made = f"{tags['mlflow.source.git.commit'][:10]}{' with changes' if provenance.get('uncommitted_changes') else ''}"
    rebuilt = "  (rebuilt from DVC)" if "dvc.rebuilt" in tags else ""
    return [
        f"MLflow run     {run.info.run_id}  {run.info.run_name}{rebuilt}",
        f"               {', '.join(shown)}",
        f"DVC            {tags['dvc.stage']}, model {md5}",
        f"made from      {made}{', experiment ' + tags['dvc.exp_name'] if tags.get('dvc.exp_name') else ''}",
        *(f"  {path}  {md5}" for path, md5 in provenance.get("inputs", {}).items()),
        f"versions       {', '.join(f'{v.version} ({v.current_stage})' for v in held) or 'none'}",
        "to bring its files back:",
        *describe_way_back(tags["dvc.stage"].removeprefix("train@"), md5, tags.get("dvc.exp_name")),
        *(
            line
            for other, v in served.items()
            for line in (
                f"  # version {v.version} serves champion, model {other}:",
                *describe_way_back("champion", other, tags.get("dvc.exp_name")),
            )
        ),
    ]


def find_named_runs(key: str, versions: list[ModelVersion]) -> list[Run]:
    """Finished runs that an md5 of a model, judged or served, a run id or a version number names.

    Raises InputError if there are none.
    """
    version = next((v for v in versions if key in (str(v.version), f"v{v.version}", v.tags.get(registry.SERVED))), None)
    clause = f"tags.`dvc.model_md5` = '{key}'"
    if version:
        clause = f"attributes.run_id = '{version.run_id}'"
    elif len(key) == 32 and has_run(key):
        clause = f"attributes.run_id = '{key}'"
    elif not key.isalnum():
        clause = "attributes.run_id = 'none'"
    found = mlflow.search_runs(
        experiment_names=[read_section(Mlflow).experiment],
        filter_string=f"attributes.status = 'FINISHED' and {clause}",
        output_format="list",
    )
    found = [run for run in found if "dvc.model_md5" in run.data.tags]  # others are not the pipeline's
    if not found:
        known = registry.name_versions(versions)
        raise InputError(f"{key!r} is no md5, run id or version of a model of this pipeline; versions: {known}")
    return found


def show(key: str) -> None:
    versions = registry.list_versions()
    for run in find_named_runs(key, versions):
        print("\n".join(describe_run(run, versions)))


def list_promotions() -> None:
    """Every promotion, oldest first: when, which version, which model, why."""
    versions = registry.list_versions()
    promotions = sorted(
        (tag.removeprefix(registry.PROMOTED), version, why)
        for version in versions
        for tag, why in version.tags.items()
        if tag.startswith(registry.PROMOTED)
    )
    serving = registry.find_production(versions)
    since = max((when for when, version, _ in promotions if version is serving), default=None)
    for when, version, why in promotions:
        now = f"  ← {registry.PRODUCTION}" if when == since else ""
        print(f"{when[:19]}Z  version {version.version}  {version.tags.get('dvc.stage', '')}  {why}{now}")
    if not promotions:
        print("nothing was promoted yet")


def roll_back(number: str | None) -> None:
    """Put a version, or the one that was Production before, back into Production, and keep the present one out.

    Raises InputError if there is no such version, or if it can't be loaded.
    """
    from stages.registry.judging import open_folder  # what a model takes, which the other commands do without
    from stages.registry.promotion import fetch_version

    with hold_registry() as require_turn:
        production, versions = registry.settle_production(registry.list_versions())
        if production is None:
            raise InputError("nothing is in Production, so there is nothing to roll back")
        target = find_target(versions, production, number)
        folder = fetch_version(target)
        loaded = folder if isinstance(folder, str) else open_folder(folder)
        if isinstance(loaded, str):
            raise InputError(f"version {target.version} can't be used, so nothing is changed: {loaded}")
        require_turn()
        registry.reject(production, f"{datetime.now(UTC):%Y-%m-%d %H:%M}Z, for version {target.version}")
        registry.promote(target, f"Rolled back by hand from version {production.version}.")
        registry.settle_production(registry.list_versions())
    print(f"{registry.name_model()}: version {target.version} → Production, in place of {production.version}.")
    print(f"Version {production.version} stays out until `python -m stages.history rollback {production.version}`.")


def find_target(versions: list[ModelVersion], production: ModelVersion, number: str | None) -> ModelVersion:
    wanted = next((v for v in versions if str(v.version) == number), None)
    target = wanted if number else find_previous(versions, production)
    if target is None:
        reason = f"there is no version {number}" if number else "no other version was in Production before"
        raise InputError(f"{reason}; versions: {registry.name_versions(versions)}")
    if target.version == production.version:
        raise InputError(f"version {target.version} is in Production already")
    return target


def find_previous(versions: list[ModelVersion], production: ModelVersion) -> ModelVersion | None:
    """The version, other than the present one, that was promoted last."""
    others = [v for v in versions if v.version != production.version and registry.find_last_promotion(v)]
    return max(others, key=lambda v: (registry.find_last_promotion(v), int(v.version)), default=None)


def main() -> None:
    parser = make_parser("history", __doc__, "list")
    commands = parser.add_subparsers(dest="command", required=True)
    example = f"example: {parser.prog}"
    told = "from one side to the other, and back to the files"
    shown = commands.add_parser("show", help=told, epilog=f"{example} show 1")
    shown.add_argument("key", help="md5 of a DVC model, MLflow run id, or version number")
    commands.add_parser("list", help="every promotion: when, which version, why", epilog=f"{example} list")
    told = "put an earlier version back into Production"
    rolled = commands.add_parser("rollback", help=told, epilog=f"{example} rollback 1")
    rolled.add_argument("version", nargs="?", help="its number; without it, the one that was Production before")
    arguments = parser.parse_args()
    connect()
    with explain_store_errors():
        if arguments.command == "show":
            show(arguments.key)
        elif arguments.command == "list":
            list_promotions()
        else:
            roll_back(arguments.version)


if __name__ == "__main__":
    run_command(main)
