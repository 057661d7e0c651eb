"""A raw table held against its dictionary: read it, check it, report every fault at once."""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from stages.edge import InputError
from stages.files import read_yaml
from stages.params import check_schema

RULES = {"not_nullable": "must not be missing", "field_uniqueness": "must be unique"}  # pandera's names in plain words
Number = StrictInt | StrictFloat


class Column(BaseModel):
    """One column of data/dictionary.yaml."""

    model_config = ConfigDict(extra="forbid")
    type: Literal["number", "ordinal", "category", "code"]
    levels: list[StrictStr | Number] | None = None
    range: Annotated[list[Number | None], Field(min_length=2, max_length=2)] | None = None
    absent: bool = False
    fill_by: str | None = None
    rare: Annotated[int, Field(ge=1)] | None = None


class Dictionary(BaseModel):
    """data/dictionary.yaml; only `target` is required."""

    model_config = ConfigDict(extra="forbid")
    about: str | None = None
    limits: list[str] = []
    target: str
    id: str | None = None
    rare: Annotated[int, Field(ge=1)] = 10
    outliers: str | None = None
    columns: dict[str, Column] = {}
    derived: dict[str, dict[Literal["sum", "difference", "product", "positive", "mean"], Any]] = {}


def read_dictionary(path: str, target: str | None = None) -> dict[str, Any]:
    """The data dictionary as plain data, with `target` in place of its own if given.

    Raises InputError if it is no dictionary, or if a name it uses is not one of its columns.
    """
    content = read_yaml(path)
    if target:
        content = {**content, "target": target}
    dictionary = check_schema(Dictionary, content, path).model_dump(exclude_none=True)
    faults = [*check_columns(dictionary), *check_derived(dictionary)]
    if faults:
        raise InputError(f"{path}: {'; '.join(faults)}")
    return dictionary


def check_columns(dictionary: dict[str, Any]) -> list[str]:
    columns = dictionary["columns"]
    faults = []
    if columns:
        faults += [
            f"{key}: {dictionary[key]} is not listed under columns"
            for key in ("target", "id")
            if key in dictionary and dictionary[key] not in columns
        ]
    for name, column in columns.items():
        if column["type"] == "ordinal" and not column.get("levels"):
            faults.append(f"columns.{name}: an ordinal needs its levels, worst first")
        group = column.get("fill_by")
        if group and columns.get(group, {}).get("type") != "category":
            faults.append(f"columns.{name}.fill_by: {group} is not a category")
    return faults


def check_derived(dictionary: dict[str, Any]) -> list[str]:
    known = {n for n, c in dictionary["columns"].items() if c["type"] != "category" and n != dictionary["target"]}
    faults = []
    for name, formula in dictionary["derived"].items():
        for operation, operands in formula.items():
            if operation == "mean":
                number, group = operands if isinstance(operands, list) and len(operands) == 2 else (None, None)
                types = [dictionary["columns"].get(column, {}).get("type") for column in (number, group)]
                if types[0] not in ("number", "ordinal", "code") or types[1] != "category":
                    faults.append(f"derived.{name}: mean takes a number and the category to average it over")
                continue
            sources = [operands] if isinstance(operands, str) else list(operands)
            faults += [
                f"derived.{name}: {s} is not a number, ordinal or code above it" for s in sources if s not in known
            ]
            if operation in ("difference", "product") and len(sources) != 2:
                faults.append(f"derived.{name}: {operation} takes two columns, not {len(sources)}")
        if len(formula) != 1:
            faults.append(f"derived.{name}: one operation, not {len(formula)}")
        known.add(name)
    return faults


def read_table(path: str, dictionary: dict[str, Any]) -> pd.DataFrame:
    """A CSV or Parquet table as it stands: text stays text, and only NA or nothing is missing.

    Columns that the dictionary lists are read as text and get their type in `check_table`, so that a
    wrong value can be named. Raises InputError if the file is missing, empty or no table.
    """
    if not Path(path).exists():
        raise InputError(f"{path}: no such file")
    try:
        if Path(path).suffix == ".parquet":
            table = pd.read_parquet(path)
        else:
            table = pd.read_csv(
                path,
                dtype=dict.fromkeys(dictionary["columns"], str),
                keep_default_na=False,
                na_values=["NA", ""],
                low_memory=False,
            )
    except pd.errors.EmptyDataError:
        raise InputError(f"{path}: the file is empty; expected a table with a header line") from None
    except (pd.errors.ParserError, UnicodeDecodeError, ValueError, OSError) as error:
        raise InputError(f"{path}: not a table in CSV or Parquet: {str(error).strip().splitlines()[-1]}") from None
    if table.empty:
        raise InputError(f"{path}: a header and no rows")
    return table


def check_table(table: pd.DataFrame, dictionary: dict[str, Any], path: str, log_target: bool = True) -> pd.DataFrame:
    """The table with its dictionary's types, indexed by id, in the dictionary's column order.

    Raises InputError that lists every fault with column, rule and example row ids. Columns that the
    dictionary does not know are left out, with a warning.
    """
    columns = dictionary["columns"]
    target, id_column = dictionary["target"], dictionary.get("id")
    expected = list(columns) or [name for name in (target, id_column) if name]
    check_names(map(str, table.columns), expected, path)
    extra = [str(name) for name in table.columns if columns and name not in columns]
    if extra:
        print(f"warning: {path}: columns not in the dictionary are left out: {', '.join(extra)}", file=sys.stderr)
        table = table.drop(columns=extra)
    ids = table[id_column] if id_column else pd.RangeIndex(len(table))
    checked, faults = apply_schema(table.set_axis(pd.Index(ids), axis=0), dictionary, log_target)
    if faults:
        raise InputError(f"{path}: {len(faults)} fault(s), nothing written\n" + "\n".join(f"  {f}" for f in faults))
    if id_column:
        checked = checked.set_axis(pd.Index(checked[id_column].astype("int64"), name=id_column))
        checked = checked.drop(columns=id_column)
    return checked[[name for name in columns if name in checked] or list(checked.columns)]


def check_names(found: Iterable[str], expected: Iterable[str], path: str) -> None:
    """Raises InputError if a column that is expected is not among those found."""
    found = list(found)
    missing = [name for name in expected if name not in found]
    if missing:
        raise InputError(f"{path}: missing columns: {', '.join(missing)}; found: {', '.join(found)}")


def apply_schema(table: pd.DataFrame, dictionary: dict[str, Any], log_target: bool) -> tuple[pd.DataFrame, list[str]]:
    """The table with numbers as float64, and every fault as `column: rule, found; rows, ids`."""
    import pandera.pandas as pa

    table, faults = convert_numbers(table, dictionary)
    try:
        build_schema(table, dictionary, log_target).validate(table, lazy=True)
    except pa.errors.SchemaErrors as error:
        cases = error.failure_cases
        for (column, rule), group in cases.groupby(["column", "check"], sort=False, dropna=False):
            faults.append(describe_fault(column, RULES.get(rule, rule), group["failure_case"], group["index"].dropna()))
    return table, faults


def convert_numbers(table: pd.DataFrame, dictionary: dict[str, Any]) -> tuple[pd.DataFrame, list[str]]:
    """Numbers and codes as float64, and the text that stands in their columns as faults."""
    converted, faults = {}, []
    for name in table.columns:
        if not is_number(name, dictionary):
            continue
        converted[name] = pd.to_numeric(table[name], errors="coerce").astype(float)
        wrong = table[name][converted[name].isna() & table[name].notna()]
        if len(wrong):
            faults.append(describe_fault(name, "must be a number", wrong, wrong.index))
    return table.assign(**converted), faults


def describe_fault(column: str, rule: str, values: Iterable[Any], ids: Iterable[Any], count: int | None = None) -> str:
    """One line: the column, the rule it breaks, some of the values, and the ids of some of the `count` rows."""
    rows = [str(i) for i in ids]
    count = len(rows) if count is None else count
    if not rows:
        return f"{column}: {rule}"
    found = list(dict.fromkeys(repr(value) for value in values if not pd.isna(value)))
    shown = f", found {', '.join(found[:3])}" if found else ""
    return f"{column}: {rule}{shown}; {count} row(s), id {', '.join(rows[:5])}{' ...' if count > 5 else ''}"


def is_number(name: str, dictionary: dict[str, Any]) -> bool:
    """Whether a column must hold numbers; without an entry of their own, only the target and the id must."""
    column = dictionary["columns"].get(name)
    if column is None:
        return name in (dictionary["target"], dictionary.get("id"))
    return column["type"] in ("number", "code")


def build_schema(table: pd.DataFrame, dictionary: dict[str, Any], log_target: bool) -> Any:
    """The dictionary as a pandera schema; columns it does not list must only hold something."""
    import pandera.pandas as pa

    target, id_column = dictionary["target"], dictionary.get("id")
    columns = {}
    for name in table.columns:
        column = dictionary["columns"].get(name, {})
        checks = [pa.Check(lambda values: len(values) > 0, error="holds no value at all")]
        if is_number(name, dictionary):
            checks.append(pa.Check(np.isfinite, error="must be finite"))
        checks += [*range_checks(pa, column), *level_checks(pa, column)]
        if name == target and log_target:
            checks.append(pa.Check.gt(0, error="must be above zero"))
        required = name in (target, id_column)
        columns[name] = pa.Column(checks=checks, nullable=not required, unique=name == id_column)
    return pa.DataFrameSchema(columns)


def range_checks(pa: Any, column: dict[str, Any]) -> list[Any]:
    low, high = column.get("range", (None, None))
    checks = []
    if low is not None:
        checks.append(pa.Check.ge(low, error=f"must be at least {low}"))
    if high is not None:
        checks.append(pa.Check.le(high, error=f"must be at most {high}"))
    return checks


def level_checks(pa: Any, column: dict[str, Any]) -> list[Any]:
    levels = column.get("levels")
    if not levels:
        return []
    return [pa.Check.isin(levels, error=level_rule(levels))]


def level_rule(levels: list[Any]) -> str:
    return f"must be one of {', '.join(map(str, levels))}"
