"""params.yaml → checked settings. The sections of the models are checked in models.py."""

from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from stages.edge import InputError
from stages.files import read_yaml

S = TypeVar("S", bound=BaseModel)


def check_folds(folds: int) -> int:
    if folds < 0 or folds == 1:
        raise ValueError("must be 0 for none, or at least 2")
    return folds


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Data(Section):
    path: str
    dictionary: str
    target: str | None
    test_size: Annotated[float, Field(gt=0, lt=1)]
    seed: Annotated[int, Field(ge=0, lt=2**32)]


class Fit(Section):
    log_target: bool
    drop_outliers: bool
    cv_folds: Annotated[int, AfterValidator(check_folds)]
    threads: Annotated[int, Field(ge=1)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]


class Register(Section):
    metric: str
    min_test_r2: Annotated[float, Field(le=1)]
    min_gain: Annotated[float, Field(ge=0)]
    promote: Literal["better", "always", "never"]


def read_section(schema: type[S], path: str = "params.yaml") -> S:
    """The section of params.yaml that is named as its schema, in lower case. Raises InputError."""
    name = schema.__name__.lower()
    content = read_yaml(path).get(name)
    if not isinstance(content, dict):
        raise InputError(f"{path}: section `{name}` is missing")
    return check_schema(schema, content, f"{path}: {name}")


def check_schema(schema: type[S], content: dict[str, Any], where: str) -> S:
    """`content` as its schema reads it. Raises InputError with every fault: key, value, what is allowed."""
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise InputError("; ".join(f"{where}.{describe_fault(fault, schema)}" for fault in error.errors())) from None


def describe_fault(fault: Any, schema: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{key}: unknown key; known: {', '.join(schema.model_fields)}"
    if fault["type"] == "missing":
        return f"{key}: missing"
    return f"{key} = {fault['input']!r}: {fault['msg'][0].lower()}{fault['msg'][1:]}"
