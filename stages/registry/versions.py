"""The registered model: its versions, which of them serves, and why.

Production (and the alias `champion`) is what people load; `challenger` is the best version that is proposed and would
pass the gate. Every promotion is a tag of the version it made Production, so the history survives.
"""

import warnings
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from stages.shared.cli import InputError
from stages.shared.params import Mlflow, read_section
from stages.tracking.provenance import describe_table

PRODUCTION = "Production"
CHAMPION_ALIAS = "champion"
CHALLENGER_ALIAS = "challenger"
PROMOTED = "promoted."  # + time: why this version became Production then
ROLLED_BACK = "rolled_back"  # when and why it was taken out of Production by hand
JUDGED = "dvc.judged_model_id"  # the logged model whose figures stand beside the version
SERVED = "dvc.model_md5"  # of the bytes that serve: models/champion as DVC has it
TABLE = "dvc.table"  # which table, by its contract
ABOUT = (
    f"The version in {PRODUCTION}, alias `{CHAMPION_ALIAS}`, serves; `{CHALLENGER_ALIAS}` is the best that waits and "
    "would pass the gate. `python -m stages.history list` prints every promotion, and why."
)
ORIGIN = ("dvc.stage", "dvc.data_md5", "dvc.exp_name")  # of the run's tags, those that its version has too
TIME = "%Y-%m-%dT%H:%M:%S.%fZ"  # sorts as text
FILES = "dvc.files_md5"  # of all files of the logged model, as they were when it got its version


def name_model() -> str:
    """The registered model of the table that params.yaml names."""
    return read_section(Mlflow).registered_model


def list_versions() -> list[ModelVersion]:
    """All versions of the registered model, newest first."""
    found = mlflow.search_model_versions(filter_string=f"name = '{name_model()}'")
    return sorted(found, key=lambda version: int(version.version), reverse=True)


def name_versions(versions: list[ModelVersion]) -> str:
    return ", ".join(str(version.version) for version in versions) or "none"


def address_model(model: str) -> str:
    """MLflow's address of what a user names: a stage, version or @alias of the registered model, or an address."""
    if ":/" in model:
        return model
    return f"models:/{name_model()}{model if model.startswith('@') else f'/{model}'}"


def address_version(version: ModelVersion) -> str:
    return address_model(str(version.version))


def find_production(versions: list[ModelVersion]) -> ModelVersion | None:
    return next((version for version in versions if version.current_stage == PRODUCTION), None)


def find_versions(versions: list[ModelVersion], md5: str) -> list[ModelVersion]:
    """Those that serve exactly the bytes with this md5: the one in Production before the others, then the oldest."""
    found = [version for version in versions if version.tags.get(SERVED) == md5]
    return sorted(found, key=lambda version: (version.current_stage != PRODUCTION, int(version.version)))


def find_table(versions: list[ModelVersion]) -> str | None:
    """The table that the registered model belongs to: that of its newest version which says so."""
    return next((version.tags[TABLE] for version in versions if TABLE in version.tags), None)


def address_judged(version: ModelVersion) -> str:
    """The model that was judged for a version: fitted on the training rows only, where the version has seen all."""
    return f"models:/{version.tags[JUDGED]}" if JUDGED in version.tags else address_version(version)


def ensure_model() -> None:
    """The registered model, made if there is none, or by another clone a moment before."""
    try:
        mlflow.MlflowClient().create_registered_model(
            name_model(),
            description=f"Models of {describe_table()}, from raw rows. {ABOUT}",
        )
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise


def add_version(run: Run, model_id: str, summary: str, tags: dict[str, str]) -> ModelVersion:
    """A new version of the registered model from a run's logged model, with what it is found by as tags."""
    ensure_model()
    origin = {key: run.data.tags[key] for key in ORIGIN if key in run.data.tags}
    origin |= {JUDGED: run.data.tags["dvc.model_id"], "dvc.judged_md5": run.data.tags["dvc.model_md5"]}
    return mlflow.MlflowClient().create_model_version(
        name_model(),
        f"models:/{model_id}",
        run.info.run_id,
        tags=origin | {TABLE: describe_table(), "dvc.model_id": model_id} | tags,
        description=summary,
        model_id=model_id,
    )


def promote(version: ModelVersion, why: str) -> None:
    """Make a version Production and champion, in place of the present one, and then keep why."""
    transition(version)
    point_alias(CHAMPION_ALIAS, version)
    now = note_promotion(version, why)
    client = mlflow.MlflowClient()
    if ROLLED_BACK in version.tags:
        client.delete_model_version_tag(name_model(), version.version, ROLLED_BACK)
    summary = (version.description or "").partition("\n\nProduction since")[0]
    client.update_model_version(name_model(), version.version, f"{summary}\n\nProduction since {now}. {why}")


def transition(version: ModelVersion) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        mlflow.MlflowClient().transition_model_version_stage(
            name_model(), version.version, PRODUCTION, archive_existing_versions=True
        )


def note_promotion(version: ModelVersion, why: str) -> str:
    """Keep why a version became Production; the time under which it is kept, after all others whatever the clock."""
    last = max(map(find_last_promotion, list_versions()), default="")
    now = f"{datetime.now(UTC):{TIME}}"
    if now <= last:
        now = f"{datetime.strptime(last, TIME) + timedelta(microseconds=1):{TIME}}"  # noqa: DTZ007 - Z stays as it is
    mlflow.MlflowClient().set_model_version_tag(name_model(), version.version, f"{PROMOTED}{now}", why)
    return now


def find_last_promotion(version: ModelVersion) -> str:
    """When a version last became Production; an empty text if it never did."""
    return max((tag.removeprefix(PROMOTED) for tag in version.tags if tag.startswith(PROMOTED)), default="")


def settle_production(versions: list[ModelVersion]) -> tuple[ModelVersion | None, list[ModelVersion]]:
    """The version in Production, which is the only one, is champion, and has its line in the history; and all versions.

    versions: all of them, as who holds the registry has just seen them. Looks again after each change.
    Raises InputError if others keep changing it.
    """
    for _ in range(5):
        repair = find_repair(versions, read_aliases())
        if repair is None:
            return find_production(versions), versions
        repair()
        versions = list_versions()
    raise InputError(f"{name_model()}: others keep changing what is in Production; run `dvc repro` again")


def find_repair(versions: list[ModelVersion], aliases: dict[str, str]) -> Callable[[], object] | None:
    """What next puts right what a kill between two requests, or somebody's hand, has left; None if all is well."""
    serving = [version for version in versions if version.current_stage == PRODUCTION]
    chosen = max(serving, key=lambda version: (find_last_promotion(version), int(version.version)), default=None)
    champion = aliases.get(CHAMPION_ALIAS)
    if chosen is None:
        return partial(drop_alias, CHAMPION_ALIAS) if champion else None
    if len(serving) > 1:
        return partial(transition, chosen)
    if champion != str(chosen.version):
        return partial(point_alias, CHAMPION_ALIAS, chosen)
    if champion == aliases.get(CHALLENGER_ALIAS):
        return partial(drop_alias, CHALLENGER_ALIAS)
    if ROLLED_BACK in chosen.tags:
        return partial(mlflow.MlflowClient().delete_model_version_tag, name_model(), chosen.version, ROLLED_BACK)
    why = "Found in Production: put there by hand, or its promotion was cut short."
    late = find_last_promotion(chosen) < max(map(find_last_promotion, versions))
    return partial(note_promotion, chosen, why) if late else None


def read_aliases() -> dict[str, str]:
    """{alias: version}; a search for versions does not return them."""
    try:
        aliases = mlflow.MlflowClient().get_registered_model(name_model()).aliases
        return {alias: str(version) for alias, version in aliases.items()}
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return {}


def reject(version: ModelVersion, why: str) -> None:
    """Keep a version out of Production until somebody puts it back by hand."""
    mlflow.MlflowClient().set_model_version_tag(name_model(), version.version, ROLLED_BACK, why)


def point_alias(alias: str, version: ModelVersion) -> None:
    mlflow.MlflowClient().set_registered_model_alias(name_model(), alias, version.version)


def drop_alias(alias: str) -> None:
    mlflow.MlflowClient().delete_registered_model_alias(name_model(), alias)
