"""params.yaml → checked settings. The sections of the models are checked in model/estimators.py."""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainValidator, ValidationError

from stages.shared.cli import InputError
from stages.shared.files import read_yaml, write_whole

PARAMS = "params.yaml"
YAML_NULL = "tag:yaml.org,2002:null"
Name = Annotated[str, Field(pattern=r"^[^/:@'\"\\%]+$", max_length=200)]  # that can stand in an address of MLflow's
S = TypeVar("S", bound=BaseModel)


def check_folds(folds: int) -> int:
    if folds < 0 or folds == 1:
        raise ValueError("must be 0 for none, or at least 2")
    return folds


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


def check_split(split: Any) -> Any:
    if split != "random" and not (
        isinstance(split, dict)
        and [*split] in (["time"], ["group"])
        and all(isinstance(name, str) and name for name in split.values())
    ):
        raise ValueError("must be random, {time: <column>} or {group: <column>}")
    return split


def check_log(log_target: Any) -> Any:
    if log_target != "auto" and not isinstance(log_target, bool):
        raise ValueError("must be true, false or auto")
    return log_target


class Data(Section):
    path: str
    dictionary: str
    target: str | None
    split: Annotated[Literal["random"] | dict[str, str], PlainValidator(check_split)] = "random"
    test_size: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class Fit(Section):
    log_target: Annotated[bool | Literal["auto"], PlainValidator(check_log)]
    cv_folds: Annotated[int, Field(le=100), AfterValidator(check_folds)]
    threads: Annotated[int, Field(ge=1, le=os.cpu_count() or 1)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]


class Cluster(Section):
    """Where fits run: here for null, in processes of this machine for `local`, or on the Dask cluster at an address."""

    address: Annotated[str, Field(pattern=r"^(local|(tcp|tls)://[^/\s]+:\d+)$")] | None
    sample_rows: Annotated[int, Field(ge=100)]


class Mlflow(Section):
    """What a table's runs and models are called. Read when it is needed, and declared under `register` alone: a new
    name trains nothing again.
    """

    experiment: Name
    registered_model: Name


class Register(Section):
    metric: str
    min_test_r2: Annotated[float, Field(le=1)] | None
    min_gain: Annotated[float, Field(ge=0)]
    promote: Literal["better", "always", "never", "ci"]
    refit: bool


def runs_in_ci() -> bool:
    """Whether this is continuous integration, by the variable that its services set."""
    return os.environ.get("CI", "").lower() not in ("", "0", "false")


class Blend(Section):
    within: Annotated[float, Field(ge=0, le=1)]


def read_section(schema: type[S]) -> S:
    """The section of params.yaml that is named as its schema, in lower case. Raises InputError."""
    name = schema.__name__.lower()
    return check_schema(schema, read_mapping(name), f"{PARAMS}: {name}")


def read_mapping(name: str) -> dict[str, Any]:
    """A section of params.yaml as it stands. Raises InputError if it is missing, or no section."""
    content = read_yaml(PARAMS)
    if name not in content:
        raise InputError(f"{PARAMS}: section `{name}` is missing; an empty one is written `{name}: {{}}`")
    if not isinstance(content[name], dict):
        raise InputError(f"{PARAMS}: section `{name}`: expected `key: value` lines, found {content[name]!r:.60}")
    return content[name]


def write_params(changes: dict[str, dict[str, Any]], path: str = PARAMS) -> None:
    """Put values into sections of params.yaml; comments, order and all else stay."""
    from ruamel.yaml import YAML

    yaml = YAML()
    yaml.width = 120
    yaml.preserve_quotes = True
    yaml.representer.add_representer(type(None), lambda dumper, _: dumper.represent_scalar(YAML_NULL, "null"))
    content = yaml.load(Path(path).read_text(encoding="utf-8"))
    for section, values in changes.items():
        content[section].update(values)
    with write_whole(path) as part, part.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)


def check_schema(schema: type[S], content: dict[str, Any], where: str) -> S:
    """`content` as its schema reads it. Raises InputError with every fault: key, value, what is allowed."""
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        faults = list(dict.fromkeys(f"{where}.{describe_error(fault, schema)}" for fault in error.errors()))
        rest = f"; and {len(faults) - 10} more" if len(faults) > 10 else ""
        raise InputError("; ".join(faults[:10]) + rest) from None


def describe_error(fault: Any, schema: type[BaseModel]) -> str:
    """One line for a fault that pydantic found: the key, its value, and what is allowed."""
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        known = f"; known: {', '.join(schema.model_fields)}" if len(fault["loc"]) == 1 else ""
        return f"{key}: unknown key{known}"
    if fault["type"] == "missing":
        return f"{key}: missing"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{key} = {fault['input']!r:.80}: {message[0].lower()}{message[1:]}"
