"""The data dictionary: everything particular to one table, as data that is checked and never run."""

import codecs
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StrictFloat,
    StrictInt,
    StrictStr,
    model_validator,
)

from stages.shared.cli import InputError
from stages.shared.files import read_yaml
from stages.shared.params import check_schema
from stages.table.checks import LARGEST
from stages.table.reading import Dialect, decode

Amount = Annotated[StrictInt | StrictFloat, Field(allow_inf_nan=False, ge=-LARGEST, le=LARGEST)]
Pair = Annotated[list[StrictStr], Field(min_length=2, max_length=2)]
Rare = Annotated[StrictInt, Field(ge=1)]
LEVELLED = ("ordinal", "category", "nominal")
Name = Annotated[StrictStr, Field(min_length=1)]
Words = Annotated[list[StrictStr], Field(min_length=1)]


def check_encoding(name: str) -> str:
    try:
        decode(pa.BufferReader("1".encode(codecs.lookup(name).name)), Dialect(encoding=name)).read()
    except (LookupError, ValueError, AttributeError):  # the last by one that takes no stream
        raise ValueError("no encoding of text that Python knows; common ones: utf-8, latin-1, cp1252, utf-16") from None
    return name


class Entry(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Column(Entry):
    """One column of the table."""

    type: Literal["number", "ordinal", "category", "nominal", "flag", "date", "text"]
    levels: Annotated[list[StrictStr | Amount], Field(min_length=1)] | None = None
    range: Annotated[list[Amount | None], Field(min_length=2, max_length=2)] | None = None
    na_means: Literal["unknown", "absent"] = "unknown"
    fill_by: StrictStr | None = None
    rare: Rare | None = None
    missing: Words | None = None
    format: StrictStr | None = None
    feature: bool = True

    @model_validator(mode="after")
    def check(self) -> Self:
        if self.type == "ordinal" and not self.levels:
            raise ValueError("an ordinal needs its levels, worst first")
        number = self.type in ("number", "nominal")
        if self.levels and not number:
            self.levels = [str(level) for level in self.levels]  # a table has text for a scale from 1 to 5 too
        if self.levels and len(set(self.levels)) < len(self.levels):
            raise ValueError("a level stands twice")
        if number and any(isinstance(level, str) for level in self.levels or ()):
            raise ValueError(f"the levels of a {self.type} are numbers; a column of words is a category")
        if self.levels and self.type in ("flag", "date", "text"):
            raise ValueError(f"levels: a {self.type} has none")
        if bool(self.format) != (self.type == "date"):
            only = f"format: only for type date, and this is of type {self.type}"
            raise ValueError(only if self.format else "a date needs its format: ISO8601, or as %d.%m.%Y")
        if not number and self.range:
            raise ValueError(f"range: only numbers have one, and this is of type {self.type}")
        if self.type != "number" and self.fill_by:
            raise ValueError(f"fill_by: only for type number, and this is of type {self.type}")
        low, high = self.range or (None, None)
        if low is not None and high is not None and low > high:
            raise ValueError(f"range: {low} is above {high}")
        return self


class Formula(Entry):
    """How a derived column comes from columns above it: one operation."""

    sum: Annotated[list[StrictStr], Field(min_length=1)] | Annotated[dict[str, Amount], Field(min_length=1)] | None = (
        None
    )
    difference: Pair | None = None
    product: Pair | None = None
    positive: StrictStr | None = None
    over: tuple[StrictStr, Amount] | None = None
    is_: tuple[StrictStr, StrictStr | Amount] | None = Field(None, alias="is")
    mean: Pair | None = None

    @model_validator(mode="after")
    def check(self) -> Self:
        if len(self.model_fields_set) != 1 or not self.model_dump(exclude_none=True):
            raise ValueError("one operation: sum, difference, product, positive, over, is or mean")
        return self

    @property
    def sources(self) -> list[str]:
        """The columns that must be numbers."""
        if self.is_:
            return []
        if self.mean or self.over:
            return [(self.mean or self.over or [""])[0]]
        (operands,) = self.model_dump(exclude_none=True).values()
        return [operands] if isinstance(operands, str) else list(operands)

    @property
    def group(self) -> str | None:
        """The column that must have levels."""
        return self.mean[1] if self.mean else self.is_[0] if self.is_ else None


class Dictionary(Entry):
    """data/dictionary.yaml; only `target` is required."""

    about: StrictStr | None = None
    limits: list[StrictStr] = []
    target: Name
    unit: StrictStr | None = None
    row: StrictStr | None = None
    id: Name | None = None
    rare: Rare = 10
    separator: Literal[",", ";", "\t", "|", ":", " "] | None = None
    encoding: Annotated[StrictStr, AfterValidator(check_encoding)] | None = None
    decimal: Literal[".", ","] | None = None
    thousands: Literal[",", ".", " ", "'", "\u00a0", "\u202f"] | None = None
    missing: Words | None = None
    columns: dict[str, Column] = {}
    derived: dict[str, Formula] = {}

    @model_validator(mode="after")
    def check(self) -> Self:
        if self.thousands and self.thousands == (self.decimal or "."):
            raise ValueError(f"thousands: {self.thousands!r} is the decimal mark")
        return self


def read_dictionary(path: str, target: str | None = None) -> dict[str, Any]:
    """The data dictionary as plain data, with `target` in place of its own if given.

    Raises InputError if it is no dictionary, or if a name it uses is not one of its columns.
    """
    content = read_yaml(path)
    if target is not None:
        unit = content.get("unit") if content.get("target") == target else None
        content = {**content, "target": target, "unit": unit}
    dictionary = check_schema(Dictionary, content, path)
    faults = [*check_names(dictionary), *check_columns(dictionary), *check_derived(dictionary)]
    if faults:
        raise InputError(f"{path}: {'; '.join(faults[:10])}")
    return dictionary.model_dump(exclude_none=True, by_alias=True)


def check_names(dictionary: Dictionary) -> list[str]:
    """Whether target and id are columns that can be what they are to be."""
    faults = []
    allowed = {"target": ("number",), "id": ("number", "category", "text")}
    for key, name in (("target", dictionary.target), ("id", dictionary.id)):
        column = dictionary.columns.get(name or "")
        if column and column.type not in allowed[key]:
            faults.append(f"{key}: {name} must be of type {' or '.join(allowed[key])}, not {column.type}")
    if dictionary.id == dictionary.target:
        faults.append(f"target: {dictionary.target} is the id")
    return faults


def check_columns(dictionary: Dictionary) -> list[str]:
    groups = {name for name, c in dictionary.columns.items() if c.type == "category" and name != dictionary.id}
    return [
        f"columns.{name}.fill_by: {column.fill_by} is not a category"
        for name, column in dictionary.columns.items()
        if column.fill_by and column.fill_by not in groups
    ]


def check_derived(dictionary: Dictionary) -> list[str]:
    """Whether each formula uses columns above it, of the right kind, and gives a new name."""
    columns, faults = dictionary.columns, []
    known = {name for name, c in columns.items() if c.type not in ("category", "text")} - {
        dictionary.target,
        dictionary.id,
    }
    levelled = {name for name, c in columns.items() if c.type in LEVELLED and name != dictionary.id}
    for name, formula in dictionary.derived.items():
        if name in columns or name in (dictionary.target, dictionary.id):
            faults.append(f"derived.{name}: there is a column of this name already")
        faults += [
            f"derived.{name}: {source} is not a number, ordinal, nominal, flag or date above it"
            for source in formula.sources
            if source not in known
        ]
        if formula.group and formula.group not in levelled:
            faults.append(f"derived.{name}: {formula.group} is not a column with levels")
        if formula.is_:
            faults += [f"derived.{name}: {fault}" for fault in check_level(columns, *formula.is_)]
        known.add(name)
    return faults


def check_level(columns: dict[str, Column], name: str, level: Any) -> list[str]:
    """Whether a column can have this level."""
    if name not in columns:
        return []
    levels, text = columns[name].levels, columns[name].type != "nominal"
    possible = level in levels if levels else isinstance(level, str) == text
    return [] if possible else [f"{level!r} is no level of {name}"]
