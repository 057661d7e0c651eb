"""The registered model: its versions, which of them serves, and why.

Production (and the alias `champion`) is what people load; `challenger` is the newest version that an
experiment proposes. Every promotion is a tag of the version it made Production, so the history survives.
"""

import warnings
from datetime import UTC, datetime

import mlflow
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from stages.shared.params import Mlflow, read_section

PRODUCTION = "Production"
CHAMPION_ALIAS = "champion"
CHALLENGER_ALIAS = "challenger"
PROMOTED = "promoted."  # + time: why this version became Production then
ROLLED_BACK = "rolled_back"  # when and why it was taken out of Production by hand
JUDGED = "dvc.judged_model_id"  # the logged model whose figures stand beside the version
SERVED = "dvc.model_md5"  # of the bytes that serve: models/champion as DVC has it
TABLE = "dvc.table"  # which table, by its contract
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


def find_table(versions: list[ModelVersion]) -> str | None:
    """The table that the registered model belongs to: that of its newest version which says so."""
    return next((version.tags[TABLE] for version in versions if TABLE in version.tags), None)


def find_version(versions: list[ModelVersion], md5: str) -> ModelVersion | None:
    """The newest version that serves exactly the bytes with this md5, whichever run logged them."""
    return next((version for version in versions if version.tags.get(SERVED) == md5), None)


def address_judged(version: ModelVersion) -> str:
    """The model that was judged for a version: fitted on the training rows only, where the version has seen all."""
    return f"models:/{version.tags[JUDGED]}" if JUDGED in version.tags else address_version(version)


def add_version(run: Run, model_id: str, target: str, summary: str, tags: dict[str, str]) -> ModelVersion:
    """A new version of the registered model from a run's logged model, with the run's provenance as tags.

    target: what it predicts, in words.
    """
    client = mlflow.MlflowClient()
    try:
        client.create_registered_model(name_model(), description=f"{target}, from raw rows.")
    except MlflowException as error:  # there already, perhaps since a moment: another clone's
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    origin = {key: value for key, value in run.data.tags.items() if key.startswith("dvc.") and value}
    origin |= {JUDGED: run.data.tags["dvc.model_id"], "dvc.judged_md5": run.data.tags["dvc.model_md5"]}
    return client.create_model_version(
        name_model(),
        f"models:/{model_id}",
        run.info.run_id,
        tags=origin | {"dvc.model_id": model_id} | tags,
        description=summary,
        model_id=model_id,
    )


def promote(version: ModelVersion, why: str) -> None:
    """Make a version Production and champion, in place of the present one, and then keep why."""
    client = mlflow.MlflowClient()
    now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=FutureWarning)
        client.transition_model_version_stage(name_model(), version.version, PRODUCTION, archive_existing_versions=True)
    point_alias(CHAMPION_ALIAS, version)
    client.set_model_version_tag(name_model(), version.version, f"{PROMOTED}{now}", why)
    if ROLLED_BACK in version.tags:
        client.delete_model_version_tag(name_model(), version.version, ROLLED_BACK)
    summary = (version.description or "").partition("\n\nProduction since")[0]
    client.update_model_version(name_model(), version.version, f"{summary}\n\nProduction since {now}. {why}")


def reject(version: ModelVersion, why: str) -> None:
    """Keep a version out of Production until somebody puts it back by hand."""
    mlflow.MlflowClient().set_model_version_tag(name_model(), version.version, ROLLED_BACK, why)


def settle_alias(alias: str, version: ModelVersion) -> None:
    """Point an alias at a version, if it does not point there yet."""
    if alias not in version.aliases:
        point_alias(alias, version)


def point_alias(alias: str, version: ModelVersion) -> None:
    mlflow.MlflowClient().set_registered_model_alias(name_model(), alias, version.version)
