"""The one set of rules for a row, behind every door: the table to learn from, a file to predict, a request.

A fault is what no model can take: text for a number, a number out of all bounds, an id that is none. A mark is a
value outside its column's range or levels: a fault in the table to learn from, and predicted all the same elsewhere.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stages.table.values import FLAGS, MISSING, find_marks, is_missing, make_groups, read_numbers, to_days

LARGEST = 1e15  # a number beyond it is no quantity or id, and its products leave the range of the trees' float32
CELLS = "must have one cell for each column"


@dataclass(frozen=True)
class Rule:
    """What a column may hold: numbers or text, and where a value is out of the ordinary."""

    name: str
    number: bool
    low: float = -np.inf
    high: float = np.inf
    levels: tuple[Any, ...] = ()
    missing: tuple[str, ...] = ()  # words that are missing values
    decimal: str = "."
    thousands: str = ""
    flag: bool = False
    date: str | None = None  # how it is written

    @property
    def wanted(self) -> str:
        """What its values are, in words."""
        return "a finite number" if self.number else "true, false or text" if self.flag else "text"

    @property
    def level_rule(self) -> str:
        if self.flag:
            return "must be true or false, yes or no, 1 or 0"
        return f"must be one of {', '.join(map(str, self.levels))}"


@dataclass(frozen=True)
class Finding:
    """A rule that rows break: which of them, by position, and what stands there."""

    column: str
    rule: str
    positions: np.ndarray
    found: list[Any]


def make_rules(numbers: Mapping[str, bool], dictionary: Mapping[str, Any]) -> list[Rule]:
    """A rule for each column, given whether it holds numbers; the rest is the dictionary's."""
    rules = []
    for name, number in numbers.items():
        column = dictionary.get("columns", {}).get(name, {})
        low, high = column.get("range", (None, None))
        bounds = -np.inf if low is None else low, np.inf if high is None else high
        flag = column.get("type") == "flag"
        levels = [level for level in FLAGS if isinstance(level, str)] if flag else column.get("levels", ())
        missing = (*MISSING, *dictionary.get("missing", ()), *column.get("missing", ()))
        marks = find_marks(dictionary)
        rules.append(Rule(name, number, *bounds, tuple(levels), missing, *marks, flag, column.get("format")))
    return rules


def holds_numbers(name: str, dictionary: Mapping[str, Any]) -> bool:
    """Whether the values of a column must be numbers."""
    return dictionary.get("columns", {}).get(name, {"type": "number"})["type"] in ("number", "nominal")


def check_batch(batch: pa.RecordBatch, rules: list[Rule]) -> tuple[pd.DataFrame, list[Finding], list[Finding]]:
    """A batch with its types, numbers as float64 and text as categories; its faults; and its marks."""
    typed: dict[str, Any] = {}
    faults = []
    for rule in rules:
        array = batch[rule.name]
        if rule.number:
            typed[rule.name], wrong = parse_numbers(array, rule)
            faults += find_rows(rule.name, "must be a number", wrong, array.to_pylist)
        else:
            typed[rule.name], wrong = parse_text(array, rule)
            faults += find_rows(rule.name, "must be text", wrong, array.to_pylist)
    rows = pd.DataFrame(typed)
    more, marks = check_rows(rows, rules)
    return rows, faults + more, marks


def check_rows(rows: pd.DataFrame, rules: list[Rule]) -> tuple[list[Finding], list[Finding]]:
    """Faults and marks of rows that have their types already."""
    faults: list[Finding] = []
    marks: list[Finding] = []
    plain = [rule for rule in rules if rule.number]
    values = np.column_stack([rows[rule.name].to_numpy(float) for rule in plain]) if plain else np.empty((len(rows), 0))
    low, high = np.array([rule.low for rule in plain]), np.array([rule.high for rule in plain])
    too_large, too_low, too_high = np.abs(values) > LARGEST, values < low, values > high
    for position in np.flatnonzero((too_large | too_low | too_high).any(axis=0)):
        rule, column = plain[position], values[:, position]
        size = f"must be finite and at most {LARGEST:g} in size"
        faults += find_rows(rule.name, size, too_large[:, position], column.tolist)
        marks += find_rows(rule.name, f"must be at least {rule.low:g}", too_low[:, position], column.tolist)
        marks += find_rows(rule.name, f"must be at most {rule.high:g}", too_high[:, position], column.tolist)
    for rule in rules:
        column = rows[rule.name]
        if rule.levels:
            marks += find_rows(rule.name, rule.level_rule, find_unknown(column, rule), column.tolist)
        if rule.date:
            wrong = np.isnan(to_days(column, rule.date)) & column.notna().to_numpy()
            faults += find_rows(rule.name, f"must be a date ({rule.date})", wrong, column.tolist)
    return faults, marks


def find_unknown(column: pd.Series, rule: Rule) -> np.ndarray:
    """Which values, (n_rows,), are none of the rule's levels; a missing one is no level, and not unknown either."""
    if rule.number:
        return ~np.isin(column, rule.levels) & column.notna().to_numpy()
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return ~column.isin(rule.levels).to_numpy() & column.notna().to_numpy()
    unknown = [code for code, level in enumerate(column.cat.categories) if level not in rule.levels]
    return np.isin(column.cat.codes, unknown)


def find_rows(name: str, rule: str, broken: np.ndarray, list_values: Callable[[], list[Any]]) -> list[Finding]:
    positions = np.flatnonzero(broken)
    if not positions.size:
        return []
    values = list_values()
    return [Finding(name, rule, positions, [values[position] for position in positions])]


def parse_numbers(array: pa.Array, rule: Rule) -> tuple[np.ndarray, np.ndarray]:
    """Numbers, NaN where there is none; and where something else than a number stands."""
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    wrong, text = np.zeros(len(array), dtype=bool), is_text(array.type)
    if not (text or is_numeric(array.type)):
        return np.full(len(array), np.nan), array.is_valid().to_numpy(zero_copy_only=False)
    if text:
        array = drop_words(array, rule.missing)
        if rule.thousands:
            grouped = pc.match_substring_regex(array, make_groups(rule.decimal, rule.thousands))
            array = pc.if_else(grouped, pc.replace_substring(array, rule.thousands, ""), array)
        if rule.decimal != ".":
            array = pc.replace_substring(pc.replace_substring(array, ".", "?"), rule.decimal, ".")
    try:
        values = array.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        values = pd.to_numeric(array.to_pandas(), errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    missing = np.isnan(values)
    if text and missing.sum() > array.null_count:  # in a column of numbers, NaN is a missing one
        wrong = missing & array.is_valid().to_numpy(zero_copy_only=False)
    return drop_numbers(values, rule), wrong


def drop_numbers(values: np.ndarray, rule: Rule) -> np.ndarray:
    """Numbers, (n_rows,), of which those that stand for a missing value are NaN."""
    numbers = read_numbers(rule.missing, rule.decimal, rule.thousands)
    return np.where(np.isin(values, numbers), np.nan, values) if numbers else values


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_numeric(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)


def drop_words(array: pa.Array, words: Sequence[str]) -> pa.Array:
    """Text in which some words are missing values."""
    if not words:
        return array
    return pc.if_else(pc.is_in(array, pa.array(words, array.type)), pa.scalar(None, array.type), array)


def parse_text(array: pa.Array, rule: Rule) -> tuple[pd.Categorical, np.ndarray]:
    """Text as categories; and where something stands that is none."""
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    try:
        if not is_text(array.type) and not pa.types.is_dictionary(array.type):
            array = array.cast(pa.string())
        coded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        found = coded.dictionary.cast(pa.string()).to_pylist()
    except pa.ArrowException:
        return pd.Categorical([None] * len(array)), valid
    codes = coded.indices.fill_null(-1).to_numpy(zero_copy_only=False)
    words = [code for code, level in enumerate(found) if level in rule.missing]
    if words:
        codes = np.where(np.isin(codes, words), -1, codes)
    levels = pd.Index(found, dtype=object)  # pandas takes ten times as long to make one of str
    return pd.Categorical.from_codes(codes, levels, validate=False), np.zeros(len(array), dtype=bool)


def flag_rows(findings: Iterable[Finding], n_rows: int) -> np.ndarray:
    """Which rows, (n_rows,), break a rule."""
    flags = np.zeros(n_rows, dtype=bool)
    for finding in findings:
        flags[finding.positions] = True
    return flags


class Tally:
    """How often each rule is broken, with the first rows and values, so that memory stays flat."""

    def __init__(self, named: str) -> None:
        self.named = named  # by what rows are: id or row
        self.rules: dict[tuple[str, str], tuple[int, list[str], list[str]]] = {}

    def add(self, findings: Iterable[Finding], ids: pd.Series | pd.Index) -> None:
        for finding in findings:
            count, values, rows = self.rules.get((finding.column, finding.rule), (0, [], []))
            shown = [f"{value!r:.60}" for value in finding.found if not is_missing(value)]
            rows = [*rows, *map(str, pd.Index(ids)[finding.positions[:5]])][:5]
            values = list(dict.fromkeys([*values, *shown]))[:3]
            self.rules[finding.column, finding.rule] = (count + len(finding.positions), values, rows)

    def merge(self, other: "Tally") -> None:
        """Add what was found in another part of the same table."""
        for key, (more, shown, places) in other.rules.items():
            count, values, rows = self.rules.get(key, (0, [], []))
            self.rules[key] = (count + more, list(dict.fromkeys([*values, *shown]))[:3], [*rows, *places][:5])

    def add_lines(self, lines: list[str]) -> None:
        """Lines without one cell for each column, which are in no batch and have no id."""
        if lines:
            self.add([Finding("line", CELLS, np.arange(len(lines)), lines)], pd.Index(["unknown"] * len(lines)))

    def describe(self) -> Iterator[str]:
        """A line for each rule: the column, the rule, some of the values, and the ids of some of the rows."""
        for (column, rule), (count, values, rows) in self.rules.items():
            shown = f", found {', '.join(values)}" if values else ""
            where = f"; {count} row(s), {self.named} {', '.join(rows)}{' ...' if count > 5 else ''}" if count else ""
            yield f"{column}: {rule:.200}{shown}{where}"
