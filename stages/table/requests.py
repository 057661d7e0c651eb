"""The rows of a request, as JSON or CSV, under the rules for any row; and what /docs says of them."""

from typing import Annotated, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import BaseModel, FailFast, Field, StrictBool, StrictStr, ValidationError, create_model
from typing_extensions import TypedDict

from stages.shared.cli import InputError
from stages.table.checks import CELLS, Rule, Tally, check_batch, check_rows, drop_numbers
from stages.table.reading import Dialect, describe_failure, join_some, parse_csv

Quantity = Annotated[float, Field(strict=True, allow_inf_nan=False)]
JSON, CSV = "application/json", "text/csv"
FORMS = '{"dataframe_records": [rows]}, or one of dataframe_split, inputs, instances'


class Split(BaseModel):
    """Column names once, and rows as lists."""

    columns: list[str]
    data: list[list[Any]]

    def pair(self) -> list[dict[str, Any]]:
        """The rows as records. Raises InputError for a row of another length."""
        if len(set(self.columns)) < len(self.columns):
            raise InputError("columns that are there twice")
        for number, row in enumerate(self.data, start=1):
            if len(row) != len(self.columns):
                raise InputError(f"row {number} must be a list of {len(self.columns)} values, one for each column")
        return [dict(zip(self.columns, row, strict=True)) for row in self.data]


class Body(BaseModel):
    """A body in JSON: exactly one of these."""

    dataframe_records: Any = None
    instances: Any = None
    inputs: Any = None
    dataframe_split: Split | None = None


def make_body_type(rules: list[Rule]) -> type[Body]:
    """What a JSON body may be, as pydantic checks it and /docs shows it: rows of numbers or text, or null."""
    fields = {}
    for rule in rules:
        said = [f"{rule.low:g} or more"] if rule.low > float("-inf") else []
        said += [f"{rule.high:g} or less"] if rule.high < float("inf") else []
        said += [rule.level_rule.removeprefix("must be ")] if rule.levels else []
        said += [f"a date, as {rule.date}"] if rule.date else []
        kind = Quantity if rule.number else StrictBool | StrictStr | Quantity if rule.flag else StrictStr
        fields[rule.name] = Annotated[kind | None, Field(description="; ".join(said) or None)]
    rows: Any = (Annotated[list[TypedDict("Row", fields)], FailFast()], None)  # type: ignore[misc, operator]
    return create_model("Body", __base__=Body, dataframe_records=rows, instances=rows, inputs=rows)


def describe_body(body_type: type[Body], rules: list[Rule]) -> dict[str, Any]:
    """What /docs says of the body: its schema, and a row as an example."""
    example = {rule.name: make_example(rule) for rule in rules}
    schema = body_type.model_json_schema()
    shown = {"schema": schema, "example": {"dataframe_records": [example]}}
    return {"required": True, "content": {JSON: shown, CSV: {"schema": {"type": "string"}}}}


def make_example(rule: Rule) -> Any:
    """A value that a row may have."""
    if rule.levels or rule.number:
        return rule.levels[0] if rule.levels else min(max(rule.low, 1.0), rule.high)
    return (
        pd.Timestamp("2020-01-31").strftime("%Y-%m-%d" if rule.date == "ISO8601" else rule.date)
        if rule.date
        else "text"
    )


def read_json(body: bytes, rules: list[Rule], body_type: type[Body]) -> pd.DataFrame:
    """The rows of a JSON body. Raises InputError unless it has one of MLflow's forms, and rows that fit."""
    if not body.strip():
        raise InputError("the body is empty")
    try:
        content = body_type.model_validate_json(body)
        split = content.dataframe_split
        if split and not any(rows is not None for name, rows in content if name != "dataframe_split"):
            content = body_type.model_validate({"dataframe_records": split.pair()})
    except ValidationError as error:
        raise InputError(describe_errors(error, {rule.name: rule.wanted for rule in rules})) from None
    given = [rows for _, rows in content if rows is not None]
    if len(given) != 1:
        raise InputError(f"the body must be {FORMS}")
    if not given[0]:
        raise InputError("no rows")
    typed: dict[str, Any] = {}
    for rule in rules:
        values = [row[rule.name] for row in given[0]]
        if rule.number:
            typed[rule.name] = drop_numbers(np.array(values, float), rule)
        else:
            words = [f"{value:g}" if isinstance(value, float) else str(value) for value in values]
            missing = [v is None or word in rule.missing for v, word in zip(values, words, strict=True)]
            typed[rule.name] = pd.Series(words, dtype=object).mask(missing, None)
    frame = pd.DataFrame(typed)
    tally = Tally("row")
    tally.add(check_rows(frame, rules)[0], frame.index + 1)
    return require_good(frame, tally)


def describe_errors(error: ValidationError, wanted: dict[str, str]) -> str:
    """One line for what pydantic finds wrong with a body."""
    missing, said = dict[str, None](), dict[str, str]()
    for fault in error.errors(include_url=False, include_context=False):
        match fault["loc"]:
            case (str(), int(row), str(name), *_) if fault["type"] == "missing":
                missing[name if row == 0 else f"{name} in row {row + 1}"] = None
            case (str(), int(row), str(name), *_) if name in wanted:
                said.setdefault(
                    name, f"{name}: must be {wanted[name]} or null, found {fault['input']!r:.50} in row {row + 1}"
                )
            case (str(form), *_):
                said.setdefault(form, f'{form} must be a list of rows, each as {{"column": value}}')
            case _:
                found = f": {fault['msg']}" if fault["type"] == "json_invalid" else ""
                said.setdefault("", f"not JSON{found}" if found else f"the body must be {FORMS}")
    listed = [f"missing columns: {join_some(list(missing), most=5)}"] if missing else []
    return join_some([*listed, *said.values()], "; ", most=5)


def read_csv(body: bytes, rules: list[Rule], dialect: Dialect) -> pd.DataFrame:
    """The rows of a CSV body. Raises InputError if it is none, or if a row does not fit."""
    tally, lines, frames, start = Tally("row"), list[str](), list[pd.DataFrame](), 1
    try:
        numbers = {rule.name: rule.number for rule in rules}
        for batch in parse_csv(pa.BufferReader(body), "CSV", numbers, lines.append, dialect):
            rows, faults, _marks = check_batch(batch, rules)
            tally.add(faults, pd.RangeIndex(start, start + len(rows)))
            frames.append(rows)
            start += len(rows)
    except (pa.ArrowException, UnicodeError) as error:
        raise InputError(describe_failure(error, dialect)) from None
    if lines:
        raise InputError(f"CSV: a line {CELLS}, found {lines[0]}")
    if start == 1:
        raise InputError("no rows")
    return require_good(pd.concat(frames, ignore_index=True), tally)


def require_good(rows: pd.DataFrame, tally: Tally) -> pd.DataFrame:
    if tally.rules:
        raise InputError(join_some([*tally.describe()], "; ", most=5))
    return rows
