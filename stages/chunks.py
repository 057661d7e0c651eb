"""A file of any length against the dictionary, a few thousand rows at a time: for prices, not for training.

The rules are those of contract.py, over whole chunks at once: pandera would take longer than the model.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from stages.contract import check_names, level_rule
from stages.edge import InputError

if TYPE_CHECKING:
    import pyarrow as pa

LARGEST = 1e15  # a number beyond it is no quantity, and its products leave the range of the trees' float32
BLOCK = 2**21  # bytes of CSV parsed at a time, about 7,000 houses: few enough to stay in the processor's cache


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
    """A chunk with its types, the faults in it, and the marks: values outside a column's range or levels."""
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
