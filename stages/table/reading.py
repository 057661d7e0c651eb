"""Tables as they come: CSV or Parquet, from a file or a request, as batches of text for checks.py to type.

Only `NA` and nothing are missing values, everywhere.
"""

import codecs
import csv as python_csv
import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from stages.shared.cli import InputError
from stages.shared.files import require_file

BLOCK = 2**21  # bytes of CSV parsed at a time, a few thousand rows: few enough to stay in the processor's cache
MOST_COLUMNS = 10_000
BROKEN = "\N{REPLACEMENT CHARACTER}"  # what bytes that are no UTF-8 are decoded to
CODED = pa.dictionary(pa.int32(), pa.string())
Batches = Iterator[tuple[pa.RecordBatch, float]]


class CheckedText(io.RawIOBase):
    """A stream that raises UnicodeError for what is no UTF-8; pyarrow alone would let it pass in places."""

    def __init__(self, stream: pa.NativeFile) -> None:
        self.stream, self.decoder = stream, codecs.getincrementaldecoder("utf-8")()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        data = self.stream.read(size)
        self.decoder.decode(data, final=not data)
        return data


def read_names(path: str) -> list[str]:
    """The names of a table's columns. Raises InputError if it has none, too many, or one twice."""
    file = require_file(path)
    try:
        if file.suffix == ".parquet":
            found = parquet.read_schema(file).names
        else:
            with pa.OSFile(str(file)) as stream:
                found = read_header(stream, path)
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path}: {describe_failure(error)}") from None
    return check_names(found, (), path)


def read_batches(path: str, numbers: Mapping[str, bool], on_bad_line: Callable[[str], None]) -> Batches:
    """A table a few thousand rows at a time, as text, each with the share of the file read so far.

    numbers: the columns to read, and whether they are to hold numbers; any others are left out. Text comes
    dictionary-encoded. `on_bad_line` hears of each line with too few or too many cells, which is left out.
    Raises InputError if the file is missing, empty or no table, or lacks a column.
    """
    file, count = require_file(path), 0
    try:
        for batch, share in (
            read_parquet(file, numbers) if file.suffix == ".parquet" else read_csv(file, numbers, on_bad_line)
        ):
            count += len(batch)
            yield batch, share
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"{path}: {describe_failure(error)}") from None
    if not count:
        raise InputError(f"{path}: a header and no rows")


def describe_failure(error: Exception) -> str:
    """One line for what pyarrow makes of something that is no table."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    wrong = isinstance(error, UnicodeError) or "UTF" in text
    return "not UTF-8 text; save it as UTF-8" if wrong else f"not a table in CSV or Parquet: {text}"


def read_parquet(file: Path, numbers: Mapping[str, bool]) -> Batches:
    opened, count = parquet.ParquetFile(file), 0
    schema = opened.schema_arrow
    check_names(schema.names, numbers, str(file))
    nested = [name for name in numbers if pa.types.is_nested(schema.field(name).type)]
    if nested:
        raise InputError(f"{file}: columns that hold lists or records: {join_some(nested)}")
    for batch in opened.iter_batches(4096, columns=list(numbers)):
        count += len(batch)
        yield batch, count / opened.metadata.num_rows


def read_csv(file: Path, numbers: Mapping[str, bool], on_bad_line: Callable[[str], None]) -> Batches:
    with pa.OSFile(str(file)) as stream:
        for batch in parse_csv(stream, str(file), numbers, on_bad_line):
            yield batch, stream.tell() / stream.size()


def parse_csv(
    stream: pa.NativeFile, where: str, numbers: Mapping[str, bool], on_bad_line: Callable[[str], None]
) -> Iterable[pa.RecordBatch]:
    """The batches of a CSV stream. Raises InputError for a header that does not fit, ArrowException for no CSV."""
    check_names(read_header(stream, where), numbers, where)

    def leave_out(row: Any) -> str:
        on_bad_line(f"{row.actual_columns} cells in place of {row.expected_columns}: {row.text:.60}")
        return "skip"

    return csv.open_csv(
        pa.PythonFile(CheckedText(stream), mode="r"),
        csv.ReadOptions(block_size=BLOCK),
        csv.ParseOptions(newlines_in_values=True, invalid_row_handler=leave_out),
        csv.ConvertOptions(
            column_types={name: pa.string() if number else CODED for name, number in numbers.items()},
            include_columns=list(numbers),
            null_values=["NA", ""],
            strings_can_be_null=True,
        ),
    )


def read_header(stream: pa.NativeFile, where: str) -> list[str]:
    """The names in the first line of a CSV stream, which is left at its start: types need them before the parse."""
    head = stream.read(BLOCK)
    stream.seek(0)
    if not head.strip():
        raise InputError(f"{where}: empty; expected a table with a header line")
    if b"\0" in head:
        raise InputError(f"{where}: not UTF-8 text; save it as UTF-8")
    try:
        found = next(python_csv.reader(io.StringIO(head.decode("utf-8-sig", "replace"))), [])
    except python_csv.Error as error:
        raise InputError(f"{where}: not a table in CSV or Parquet: {error}") from None
    if any(BROKEN in name for name in found):
        raise InputError(f"{where}: not UTF-8 text; save it as UTF-8")
    return found


def check_names(found: list[str], needed: Iterable[str], where: str) -> list[str]:
    """The names found. Raises InputError if one that is needed is not among them, or if there are too many or twins."""
    if len(found) > MOST_COLUMNS:
        raise InputError(f"{where}: {len(found):,} columns; at most {MOST_COLUMNS:,} are read")
    missing = [name for name in needed if name not in found]
    if missing:
        raise InputError(f"{where}: missing columns: {join_some(missing)}; found: {join_some(found)}")
    if len(set(found)) < len(found):
        twice = sorted(name for name, count in Counter(found).items() if count > 1)
        raise InputError(f"{where}: columns that are there twice: {join_some(twice)}")
    return found


def join_some(items: Sequence[str], separator: str = ", ", most: int = 10) -> str:
    """The first items, and how many more there are."""
    rest = f"{separator}and {len(items) - most} more" if len(items) > most else ""
    return separator.join(item[:200] for item in items[:most]) + rest
