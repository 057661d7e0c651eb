"""Tables as they come: CSV or Parquet, from a file or a request, as batches of text for checks.py to type.

Only `NA` and nothing are missing values here; checks.py knows the dictionary's other words for it.
"""

import codecs
import csv as python_csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv, parquet

from stages.shared.cli import InputError
from stages.shared.files import require_file
from stages.table.values import MISSING

BLOCK = 2**21  # bytes of CSV parsed at a time, a few thousand rows: few enough to stay in the processor's cache
MOST_COLUMNS = 10_000
BROKEN = "\N{REPLACEMENT CHARACTER}"  # what bytes that are no UTF-8 are decoded to
CODED = pa.dictionary(pa.int32(), pa.string())
GZIP, ZIP, OLD_EXCEL = b"\x1f\x8b", b"PK\x03\x04", b"\xd0\xcf\x11\xe0"  # what such a file begins with
Batches = Iterator[tuple[pa.RecordBatch, float]]


class Dialect(NamedTuple):
    """How a CSV file is written."""

    separator: str = ","
    encoding: str = "utf-8"


def find_dialect(dictionary: Mapping[str, Any]) -> Dialect:
    """The dialect that a dictionary names."""
    return Dialect(**{key: dictionary[key] for key in Dialect._fields if key in dictionary})


class CheckedText(io.RawIOBase):
    """A stream that raises UnicodeError for what is no UTF-8; pyarrow alone would let it pass in places.

    head: what was read of the stream before.
    """

    def __init__(self, head: bytes, stream: pa.NativeFile) -> None:
        self.head, self.stream, self.decoder = head, stream, codecs.getincrementaldecoder("utf-8")()

    def readable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        data, self.head = (self.head[:size], self.head[size:]) if self.head else (self.stream.read(size), b"")
        self.decoder.decode(data, final=not data)
        return data


@contextmanager
def open_csv(file: Path) -> Iterator[tuple[pa.NativeFile, pa.OSFile]]:
    """The bytes of a file, unpacked if it is gzipped, and the file itself, which knows how much of it was read."""
    with pa.OSFile(str(file)) as raw:
        packed = raw.read(len(GZIP)) == GZIP
        raw.seek(0)
        yield (pa.CompressedInputStream(raw, "gzip") if packed else raw), raw


def read_names(path: str, dialect: Dialect) -> list[str]:
    """The names of a table's columns. Raises InputError if it has none, too many, or one twice."""
    file = require_file(path)
    try:
        if file.suffix == ".parquet":
            found = parquet.read_schema(file).names
        else:
            with open_csv(file) as (stream, _):
                found, _ = read_header(decode(stream, dialect), path, dialect)
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"{path}: {describe_failure(error, dialect)}") from None
    return check_names(found, (), path)


def read_batches(
    path: str,
    numbers: Mapping[str, bool],
    on_bad_line: Callable[[str], None],
    dialect: Dialect,
    *,
    may_be_empty: bool = False,
) -> Batches:
    """A table a few thousand rows at a time, as text, each with the share of the file read so far.

    numbers: the columns to read, and whether they are to hold numbers; any others are left out. Text comes
    dictionary-encoded. `on_bad_line` hears of each line with too few or too many cells, which is left out.
    Raises InputError if the file is missing, empty or no table, or lacks a column.
    """
    file, count = require_file(path), 0
    try:
        for batch, share in (
            read_parquet(file, numbers) if file.suffix == ".parquet" else read_csv(file, numbers, on_bad_line, dialect)
        ):
            count += len(batch)
            yield batch, share
    except (pa.ArrowException, OSError, UnicodeError) as error:
        raise InputError(f"{path}: {describe_failure(error, dialect)}") from None
    if not count and not may_be_empty:
        raise InputError(f"{path}: a header and no rows")


def describe_failure(error: Exception, dialect: Dialect) -> str:
    """One line for what pyarrow makes of something that is no table."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
    wrong = isinstance(error, UnicodeError) or "UTF" in text
    return describe_encoding(dialect) if wrong else f"not a table in CSV or Parquet: {text}"


def describe_encoding(dialect: Dialect) -> str:
    return (
        f"not {dialect.encoding.upper()} text; save it as UTF-8, or name its encoding in the dictionary, "
        "as `encoding: latin-1`"
    )


def read_parquet(file: Path, numbers: Mapping[str, bool]) -> Batches:
    opened, count = parquet.ParquetFile(file), 0
    schema = opened.schema_arrow
    check_names(schema.names, numbers, str(file))
    nested = [name for name in numbers if pa.types.is_nested(schema.field(name).type)]
    if nested:
        raise InputError(
            f"{file}: columns that hold lists or records: {join_some(nested)}; take them out, or list them as text"
        )
    for batch in opened.iter_batches(4096, columns=list(numbers)):
        count += len(batch)
        columns = {field.name: spell(batch[field.name]) for field in batch.schema}
        yield pa.RecordBatch.from_pydict(columns), count / max(1, opened.metadata.num_rows)


def spell(array: pa.Array) -> pa.Array:
    """A column of Parquet, in which times of day become text as Python shows them."""
    if not pa.types.is_time(array.type):
        return array
    return pc.replace_substring_regex(array.cast(pa.string()), r"\.0+$", "")


def read_csv(file: Path, numbers: Mapping[str, bool], on_bad_line: Callable[[str], None], dialect: Dialect) -> Batches:
    with open_csv(file) as (stream, raw):
        for batch in parse_csv(stream, str(file), numbers, on_bad_line, dialect):
            yield batch, raw.tell() / raw.size()


def decode(stream: pa.NativeFile, dialect: Dialect) -> pa.NativeFile:
    """The stream as UTF-8."""
    utf8 = codecs.lookup(dialect.encoding).name == "utf-8"
    return stream if utf8 else pa.transcoding_input_stream(stream, dialect.encoding, "utf-8")


def parse_csv(
    stream: pa.NativeFile,
    where: str,
    numbers: Mapping[str, bool],
    on_bad_line: Callable[[str], None],
    dialect: Dialect,
) -> Iterable[pa.RecordBatch]:
    """The batches of a CSV stream. Raises InputError for a header that does not fit, ArrowException for no CSV."""
    stream = decode(stream, dialect)
    found, head = read_header(stream, where, dialect)
    check_names(found, numbers, where)

    def leave_out(row: Any) -> str:
        on_bad_line(f"{row.actual_columns} cells in place of {row.expected_columns}: {row.text:.60}")
        return "skip"

    return csv.open_csv(
        pa.PythonFile(CheckedText(head, stream), mode="r"),
        csv.ReadOptions(block_size=BLOCK),
        csv.ParseOptions(delimiter=dialect.separator, newlines_in_values=True, invalid_row_handler=leave_out),
        csv.ConvertOptions(
            column_types={name: pa.string() if number else CODED for name, number in numbers.items()},
            include_columns=list(numbers),
            null_values=MISSING,
            strings_can_be_null=True,
        ),
    )


def read_header(stream: pa.NativeFile, where: str, dialect: Dialect) -> tuple[list[str], bytes]:
    """The names in the first line of a CSV stream, and what was read of it: types need the names before the parse."""
    head = stream.read(BLOCK)
    if not head.strip():
        raise InputError(f"{where}: empty; expected a table with a header line")
    if head.startswith((ZIP, OLD_EXCEL)):
        raise InputError(f"{where}: an Excel workbook or a zip; save the sheet as CSV in UTF-8")
    if b"\0" in head:
        raise InputError(f"{where}: {describe_encoding(dialect)}")
    text = io.StringIO(head.decode("utf-8-sig", "replace"))
    try:
        found = next(python_csv.reader(text, delimiter=dialect.separator), [])
    except python_csv.Error as error:
        raise InputError(f"{where}: not a table in CSV or Parquet: {error}") from None
    if not found or found[0].startswith("sep="):
        raise InputError(
            f"{where}: line 1 must be the names of the columns, found {text.getvalue().splitlines()[0]!r:.60}"
        )
    if any(BROKEN in name for name in found):
        raise InputError(f"{where}: {describe_encoding(dialect)}")
    other = max(",;\t|", key=found[0].count) if len(found) == 1 else ""
    if other and other in found[0]:
        raise InputError(
            f"{where}: one column, {found[0]!r:.60}; if {other!r} separates columns, write in the dictionary "
            f"`separator: {json.dumps(other)}`"
        )
    return found, head


def check_names(found: list[str], needed: Iterable[str], where: str) -> list[str]:
    """The names found. Raises InputError if one that is needed is not among them, or if there are too many or twins."""
    if len(found) > MOST_COLUMNS:
        raise InputError(f"{where}: {len(found):,} columns; at most {MOST_COLUMNS:,} are read")
    missing = [name for name in needed if name not in found]
    if missing:
        raise InputError(f"{where}: missing columns: {join_some(missing)}; found: {join_some(found)}")
    if len(set(found)) < len(found):
        twice = sorted(show_name(name) for name, count in Counter(found).items() if count > 1)
        raise InputError(f"{where}: columns that are there twice: {join_some(twice)}")
    return found


def show_name(name: str) -> str:
    return name or "(no name)"


def join_some(items: Sequence[str], separator: str = ", ", most: int = 10) -> str:
    """The first items, and how many more there are."""
    rest = f"{separator}and {len(items) - most} more" if len(items) > most else ""
    return separator.join(item[:200] for item in items[:most]) + rest
