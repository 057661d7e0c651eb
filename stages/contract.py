"""A raw table held against its dictionary: read it, check it, report every fault at once."""

import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, StrictFloat, StrictInt, StrictStr

from stages.edge import InputError
from stages.params import check_schema, read_yaml

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST = 1e15  # a number beyond it is no quantity, and its products leave the range of the trees' float32
BLOCK = 2**21  # bytes of CSV parsed at a time, about 7,000 houses: few enough to stay in the processor's cache
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


class Dictionary(BaseModel):
    """data/dictionary.yaml; only `target` is required."""

    model_config = ConfigDict(extra="forbid")
    target: str
    id: str | None = None
    rare: Annotated[int, Field(ge=1)] = 10
    outliers: str | None = None
    columns: dict[str, Column] = {}
    derived: dict[str, dict[Literal["sum", "difference", "product", "positive"], Any]] = {}


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


class Finding(NamedTuple):
    """A rule that rows of a chunk break: which of its rows, by position, and what stands there."""

    column: str
    rule: str
    positions: np.ndarray
    found: list[Any]


def read_chunks(
    path: str, numbers: dict[str, bool], on_bad_line: Callable[[str], None]
) -> Iterator[tuple["pa.RecordBatch", float]]:
    """A CSV or Parquet table a few thousand rows at a time, as text, with the share of the file read so far.

    numbers: the columns to read, and whether they are to hold numbers; any others are left out. Text comes
    dictionary-encoded. `on_bad_line` hears of each line with too few or too many cells, which is left out.
    Raises InputError if the file is missing, empty or no table, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not Path(path).is_file():
        raise InputError(f"{path}: no such file")
    n_rows = 0
    try:
        if Path(path).suffix == ".parquet":
            file = pq.ParquetFile(path)
            check_names(file.schema_arrow.names, numbers, path)
            for batch in file.iter_batches(4096, columns=list(numbers)):
                n_rows += len(batch)
                yield batch, n_rows / file.metadata.num_rows
        else:
            with pa.OSFile(path) as stream:
                for batch in open_csv(stream, path, numbers, on_bad_line):
                    n_rows += len(batch)
                    yield batch, stream.tell() / stream.size()
    except (pa.ArrowException, OSError) as error:
        if str(error) == "Empty CSV file":
            raise InputError(f"{path}: the file is empty; expected a table with a header line") from None
        raise InputError(f"{path}: not a table in CSV or Parquet: {str(error).strip().splitlines()[0]}") from None
    if not n_rows:
        raise InputError(f"{path}: a header and no rows")


def open_csv(
    stream: "pa.NativeFile", path: str, numbers: dict[str, bool], on_bad_line: Callable[[str], None]
) -> Iterable["pa.RecordBatch"]:
    import pyarrow as pa
    from pyarrow import csv

    def leave_out(row: Any) -> str:
        on_bad_line(f"{row.actual_columns} cells in place of {row.expected_columns}: {row.text:.60}")
        return "skip"

    with pa.OSFile(path) as head:  # the columns must be known before their types can be set
        parsing = csv.ParseOptions(newlines_in_values=True, invalid_row_handler=lambda _: "skip")
        names = csv.open_csv(head, csv.ReadOptions(block_size=BLOCK), parsing).schema.names
    check_names(names, numbers, path)
    twice = sorted({name for name in numbers if names.count(name) > 1})
    if twice:
        raise InputError(f"{path}: columns that are there twice: {', '.join(twice)}")
    coded = pa.dictionary(pa.int32(), pa.string())
    return csv.open_csv(
        stream,
        csv.ReadOptions(block_size=BLOCK),
        csv.ParseOptions(newlines_in_values=True, invalid_row_handler=leave_out),
        csv.ConvertOptions(
            column_types={name: pa.string() if number else coded for name, number in numbers.items()},
            include_columns=list(numbers),
            null_values=["NA", ""],
            strings_can_be_null=True,
        ),
    )


def check_chunk(
    batch: "pa.RecordBatch", numbers: dict[str, bool], columns: dict[str, dict[str, Any]]
) -> tuple[pd.DataFrame, list[Finding], list[Finding]]:
    """A chunk with its types, the faults in it, and the marks: values outside a column's range or levels.

    The same rules as `check_table`, but over whole chunks at once: pandera would take longer than the model.
    """
    faults: list[Finding] = []
    marks: list[Finding] = []
    typed: dict[str, Any] = {}
    for name, number in numbers.items():
        levels = columns.get(name, {}).get("levels")
        if number:
            typed[name], wrong = parse_numbers(batch[name])
            faults += find_rows(name, "must be a number", wrong, batch[name].to_pylist)
        else:
            typed[name] = parse_text(batch[name])
            if levels:
                marks += find_unknown(name, typed[name], levels)
    plain = [name for name, number in numbers.items() if number]
    values = np.column_stack([typed[name] for name in plain]) if plain else np.empty((len(batch), 0))
    low, high = (np.array([find_bound(columns.get(name, {}), end) for name in plain]) for end in (0, 1))
    too_large, too_low, too_high = np.abs(values) > LARGEST, values < low, values > high
    for position in np.flatnonzero((too_large | too_low | too_high).any(axis=0)):
        name, column = plain[position], values[:, position]
        faults += find_rows(
            name, f"must be finite and at most {LARGEST:g} in size", too_large[:, position], column.tolist
        )
        marks += find_rows(name, f"must be at least {low[position]:g}", too_low[:, position], column.tolist)
        marks += find_rows(name, f"must be at most {high[position]:g}", too_high[:, position], column.tolist)
    for name in plain:
        levels = columns.get(name, {}).get("levels")
        if levels:
            unknown = ~np.isin(typed[name], levels) & ~np.isnan(typed[name])
            marks += find_rows(name, level_rule(levels), unknown, typed[name].tolist)
    return pd.DataFrame(typed), faults, marks


def find_bound(column: dict[str, Any], end: int) -> float:
    """One end of a column's range; infinite where it is open."""
    bound = column.get("range", (None, None))[end]
    return (-np.inf, np.inf)[end] if bound is None else bound


def find_rows(name: str, rule: str, broken: np.ndarray, list_values: Callable[[], list[Any]]) -> list[Finding]:
    positions = np.flatnonzero(broken)
    if not positions.size:
        return []
    values = list_values()
    return [Finding(name, rule, positions, [values[position] for position in positions])]


def find_unknown(name: str, column: pd.Categorical, levels: list[Any]) -> list[Finding]:
    unknown = [code for code, level in enumerate(column.categories) if level not in levels]
    return find_rows(name, level_rule(levels), np.isin(column.codes, unknown), column.tolist) if unknown else []


def level_rule(levels: list[Any]) -> str:
    return f"must be one of {', '.join(map(str, levels))}"


def parse_numbers(array: "pa.Array") -> tuple[np.ndarray, np.ndarray]:
    """Numbers, NaN where there is none, and where something else than a number stands."""
    import pyarrow as pa

    try:
        values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        values = pd.to_numeric(array.to_pandas(), errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    missing = np.isnan(values)
    if missing.sum() == array.null_count:
        return values, np.zeros(len(values), dtype=bool)
    return values, missing & array.is_valid().to_numpy(zero_copy_only=False)


def parse_text(array: "pa.Array") -> pd.Categorical:
    import pyarrow as pa

    if not pa.types.is_dictionary(array.type):
        array = array.cast(pa.string()).dictionary_encode()
    codes = array.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    levels = pd.Index(array.dictionary.to_pylist(), dtype=object)  # pandas takes ten times as long to make one of str
    return pd.Categorical.from_codes(codes, levels, validate=False)
