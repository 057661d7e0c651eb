"""How a CSV file is written, guessed from its beginning: what a draft says of it, for a person to check.

Nothing behind the draft guesses: a file is read as its dictionary says.
"""

import codecs
import csv
import re
from itertools import islice

from stages.shared.files import require_file
from stages.table.reading import open_csv

HEAD = 2**18  # bytes
LINES = 200
SEPARATORS = ",;\t|"
csv.field_size_limit(HEAD)
WITH_COMMA = re.compile(r"[-+]?\d[\d.,' ]*,\d[\d.,' ]*")
DECIMAL = re.compile(r"[-+]?(?:\d{1,3}(?:([. '])\d{3})+|\d+),\d+")  # 0,5 or 1.234,5
THOUSANDS = re.compile(r"[-+]?\d{1,3}(?:,\d{3})+(?:\.\d*)?")  # 1,234 or 1,234.5


def sniff(path: str) -> dict[str, str]:
    """The keys of a dictionary that say how its table is written, where that is not the usual way.

    Raises InputError if there is no such file.
    """
    file = require_file(path)
    if file.suffix == ".parquet":
        return {}
    with open_csv(file) as (stream, _):
        head = stream.read(HEAD)
    encoding = sniff_encoding(head)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(head).removeprefix("\ufeff")
    lines = text.splitlines()[: LINES + 1]
    separator = max(SEPARATORS, key=lambda mark: count_cells(lines, mark))
    cells = [*islice(csv.reader(lines, delimiter=separator), 1, LINES)]
    said = {"separator": separator, "encoding": encoding, **sniff_numbers(cells, separator)}
    usual = {"separator": ",", "encoding": "utf-8"}
    return {key: value for key, value in said.items() if usual.get(key) != value}


def sniff_encoding(head: bytes) -> str:
    """UTF-8 or UTF-16 if it is, else what Windows writes in the west, which is Latin-1 with a few more signs."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    for encoding in ("utf-8", "cp1252"):
        try:
            codecs.getincrementaldecoder(encoding)().decode(head)
        except UnicodeDecodeError:
            continue
        return encoding
    return "latin-1"


def count_cells(lines: list[str], separator: str) -> tuple[float, int]:
    """How many of the lines have as many cells as the header, and how many that is; nothing for a single one."""
    rows = [row for row in csv.reader(lines, delimiter=separator) if row]
    width = len(rows[0]) if rows else 0
    return (sum(len(row) == width for row in rows) / len(rows), width) if width > 1 else (0.0, 0)


def sniff_numbers(rows: list[list[str]], separator: str) -> dict[str, str]:
    """What a comma means in numbers, if most cells of some column have one."""
    decimal, thousands, marks = 0, 0, set[str]()
    for column in zip(*[row for row in rows if len(row) == len(rows[0])], strict=True):
        cells = [cell.strip() for cell in column if cell.strip()]
        commas = [cell for cell in cells if WITH_COMMA.fullmatch(cell)]
        if 2 * len(commas) > len(cells):
            found = [DECIMAL.fullmatch(cell) for cell in commas]
            decimal += sum(bool(match) for match in found)
            thousands += sum(bool(THOUSANDS.fullmatch(cell)) for cell in commas)
            marks |= {match[1] for match in found if match and match[1]}
    if not decimal + thousands:
        return {}
    if decimal > thousands or (decimal == thousands and separator == ";"):  # 1,234 may be either
        return {"decimal": ","} | ({"thousands": min(marks)} if marks else {})
    return {"thousands": ","}
