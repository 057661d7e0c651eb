"""What the columns of a table hold, and the dictionary completed by it: behind prepare, nothing has to guess."""

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from stages.shared.cli import InputError
from stages.table.checks import LARGEST, drop_words, make_rules, parse_numbers
from stages.table.dictionary import Column
from stages.table.reading import check_names, find_dialect, join_some, read_batches, read_names, show_name
from stages.table.values import FLAGS, MISSING, to_days

ODD = 0.05  # largest share of words that are no number in a column that is one of numbers all the same
DIFFERENT = 0.9  # smallest share of different values in a column of text
FEWEST = 20  # values that tell text from a category
WORDS = {"?", "-", "--", ".", "n/a", "na", "#n/a", "nan", "null", "nil", "none", "missing", "unknown", "(null)"}
YES_NO = {"true", "false", "yes", "no"}
WHOLE = re.compile(r"-?(0|[1-9]\d*)(\.0+)?$")  # a number that comes back as it was, unlike 007
CODED = re.compile(r"-?0\d")  # numbers that are names, as 01234 is
FORMS = [{"decimal": ","}, {"thousands": ","}, {"decimal": ",", "thousands": "."}]  # of numbers, beside 1234.5
WRITTEN = re.compile(r"\W*\d[\d\W_]*[^\W\d]{0,3}\W*")  # digits and signs, and a unit perhaps
THOUSANDS = re.compile(r"-?[1-9]\d{0,2}(\.\d{3})+")
SAMPLE = 50  # words that are tried first
DAYS = ["%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y"]
FORMATS = ["ISO8601", *DAYS, *(f"{day} {time}" for day in DAYS for time in ("%H:%M", "%H:%M:%S", "%I:%M:%S %p"))]


@dataclass(frozen=True)
class Facts:
    """What stands in a column, and what the dictionary would say of it.

    rows: all of them; of these, `missing` hold nothing, or a word for it. odd: those words, with their rows.
    counts: the rows of each different value, as text, the commonest first. numbers: of a column of them, the different
    ones. low, high: of numbers, and of dates as text.
    said: what a person should hear of it, if anything. doubt: what it may be all the same, for a person to decide.
    """

    entry: dict[str, Any]
    rows: int
    missing: int
    odd: dict[str, int]
    counts: dict[str, int]
    numbers: tuple[float, ...] = ()
    low: float | str | None = None
    high: float | str | None = None
    said: str = ""
    doubt: str = ""


def complete_dictionary(path: str, dictionary: dict[str, Any]) -> dict[str, Any]:
    """The dictionary with an entry for each column of the table: its own, or what the column's values say.

    Words that count as missing, and columns that are left out, are told on stderr. Raises InputError if the table
    cannot be read, lacks a listed column, or has numbers in a form that the dictionary does not name.
    """
    found, columns = read_names(path, find_dialect(dictionary)), dictionary["columns"]
    needed = [*columns, *(dictionary[key] for key in ("target", "id") if key in dictionary)]
    check_names(found, dict.fromkeys(needed), path)
    if taken := [name for name in dictionary.get("derived", {}) if name in found]:
        raise InputError(f"{path}: has columns of the names of derived ones: {join_some(taken)}; rename these")
    unlisted = study_columns(path, dictionary, [name for name in found if name not in columns])
    for name, facts in unlisted.items():
        for told in filter(None, (facts.said, facts.doubt)):
            print(f"warning: {path}: {show_name(name)}: {told}", file=sys.stderr)
    return {**dictionary, "columns": columns | {name: facts.entry for name, facts in unlisted.items()}}


def study_columns(path: str, dictionary: dict[str, Any], names: Sequence[str]) -> dict[str, Facts]:
    """What stands in some columns of the table. The target is taken for one of numbers, whatever it holds."""
    if not names:
        return {}
    batches = read_batches(path, dict.fromkeys(names, False), lambda _: None, find_dialect(dictionary))
    table = pa.Table.from_batches([batch for batch, _ in batches])
    return {name: study_column(path, name, table[name], dictionary) for name in names}


def study_column(path: str, name: str, column: pa.ChunkedArray, dictionary: dict[str, Any]) -> Facts:
    """What stands in one column. Raises InputError if it holds neither numbers nor text, or numbers with commas."""
    left_out = make_entry(type="text")
    if not name or pa.types.is_duration(column.type):
        said = "left out: durations; make numbers of them" if name else "left out: a column without a name"
        return Facts(left_out, len(column), column.null_count, {}, {}, said=said)
    try:
        text = column.cast(pa.large_string()).combine_chunks()
    except pa.ArrowException:
        raise InputError(f"{path}: {name}: holds neither numbers nor text; take it out, or list it as text") from None
    counted = pc.value_counts(drop_words(text, [*MISSING, *dictionary.get("missing", [])]))
    counts = Counter(dict(zip(*(counted.field(key).to_pylist() for key in ("values", "counts")), strict=True)))
    missing = counts.pop(None, 0)
    counts = Counter(dict(counts.most_common()))
    facts = Facts(left_out, len(text), missing, {}, counts)
    if name == dictionary.get("id"):
        whole = all(WHOLE.match(word) and abs(float(word)) <= LARGEST for word in counts)
        return replace(facts, entry=make_entry(type="number" if whole else "text"))
    words = {word: count for word, count in counts.items() if word.strip().lower() in WORDS}
    plain = Counter({word: count for word, count in counts.items() if word not in words})
    facts = replace(facts, missing=missing + sum(words.values()), odd=words)
    if not plain:
        kind = "number" if name == dictionary["target"] else "text"
        return replace(facts, entry=make_entry(type=kind), said="holds no value, and is left out")
    if numbers := study_numbers(path, name, plain, facts, dictionary):
        return numbers
    if {word.lower() for word in plain} <= YES_NO and plain.keys() <= FLAGS.keys():
        return tell_odd(replace(facts, entry=make_entry(type="flag")))
    named = find_names(counts, replace(facts, missing=missing, odd={}, doubt=doubt_names(plain, dictionary)))
    return find_dates(plain, facts) or named


def study_numbers(path: str, name: str, plain: Counter[str], facts: Facts, dictionary: dict[str, Any]) -> Facts | None:
    """A column of numbers, a few odd words among them; the target is one, whatever it holds."""
    values, wrong = parse_words(plain, dictionary)
    good, is_target = values[~wrong], name == dictionary["target"]
    if len(good) and not is_target and LARGEST < np.abs(good).max() < np.inf:
        return replace(
            facts, said=f"left out: numbers beyond {LARGEST:g} in size; list them as a category if they are names"
        )
    strange = {word: plain[word] for word, is_wrong in zip(plain, wrong.tolist(), strict=True) if is_wrong}
    coded = not is_target and any(CODED.match(word) for word in plain)
    number = replace(facts, entry=make_entry(type="nominal" if coded else "number"))
    fits, written = find_forms([*strange][:SAMPLE], dictionary, some=is_target)
    if sum(strange.values()) <= ODD * plain.total() and not (fits and is_target):
        number = replace(number, missing=facts.missing + sum(strange.values()), odd=facts.odd | strange)
        number = replace(number, numbers=tuple(good.tolist()), low=float(good.min()), high=float(good.max()))
        return tell_odd(replace(number, doubt=doubt_numbers(plain, dictionary)))
    if fits:
        keys = " or ".join(", ".join(f'{key}: "{mark}"' for key, mark in form.items()) for form in fits)
        raise InputError(
            f"{path}: {name}: numbers written as {written!r}: say so in the dictionary, with {keys}, or "
            "list the column there as a category"
        )
    return number if is_target else None


def doubt_names(plain: Counter[str], dictionary: dict[str, Any]) -> str:
    """What speaks for numbers or dates in a column of names, if something does."""
    wrong = parse_words(plain, dictionary)[1]
    others = Counter({word: plain[word] for word, is_wrong in zip(plain, wrong.tolist(), strict=True) if is_wrong})
    share = 1 - others.total() / plain.total()
    if len(plain) >= FEWEST and share > 0.5:
        shown = ", ".join(f"{word!r:.40} ({count:,})" for word, count in others.most_common(3))
        return f"{100 * share:.0f} % of its values are numbers, and not {shown}: is that `missing`?"
    if len(plain) >= FEWEST and sum(plain[word] for word in plain if WRITTEN.fullmatch(word)) > 0.9 * plain.total():
        return f"numbers or dates in a form that is not read, as {next(iter(plain))!r:.40}?"
    return ""


def doubt_numbers(plain: Counter[str], dictionary: dict[str, Any]) -> str:
    """What speaks for dots between thousands in a column of numbers: always three digits behind, and never 0 before."""
    dotted = [word for word in plain if "." in word]
    if {"decimal", "thousands"} & dictionary.keys() or not FEWEST <= len(dotted) < len(plain):
        return ""
    if not all(THOUSANDS.fullmatch(word) for word in dotted):
        return ""
    return f'three digits behind every dot, as {dotted[0]!r:.40}: `decimal: ","` and `thousands: "."`?'


def find_forms(words: list[str], dictionary: dict[str, Any], *, some: bool) -> tuple[list[dict[str, str]], str]:
    """The forms of numbers in which all of the words are some, or with `some` one is; and a word that is."""
    read = [(keys, ~parse_words(words, {**dictionary, **keys})[1]) for keys in FORMS if words]
    fits = [(keys, words[int(good.argmax())]) for keys, good in read if (good.any() if some else good.all())]
    return [keys for keys, _ in fits], fits[0][1] if fits else ""


def parse_words(words: Iterable[str], dictionary: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """Numbers, (n_words,), and which of the words are none."""
    rule = make_rules({"": True}, {**dictionary, "columns": {}})[0]
    return parse_numbers(pa.array(list(words), pa.string()), rule)


def find_dates(plain: Counter[str], facts: Facts) -> Facts | None:
    """A column of dates, if one format fits all of them, or if those that fit read them as the same days."""
    words, fits = pd.Series(list(plain)), dict[tuple[float, ...], str]()
    for form in FORMATS if any(char.isdigit() for char in words[0]) else ():
        if not np.isnan(to_days(words.head(SAMPLE), form)).any():
            days = to_days(words, form)
            if not np.isnan(days).any():
                fits.setdefault(tuple(days.tolist()), form)
    if len(fits) > 1:
        forms = " or ".join(map(repr, fits.values()))
        return replace(facts, entry=make_entry(type="text"), said=f"left out: dates, but of which `format`, {forms}?")
    for read, form in fits.items():
        low, high = words[int(np.argmin(read))], words[int(np.argmax(read))]
        return tell_odd(replace(facts, entry=make_entry(type="date", format=form), low=low, high=high))
    return None


def find_names(counts: Counter[str], facts: Facts) -> Facts:
    """A column of names, or of text, in which nearly every row has another."""
    if len(counts) < max(FEWEST, DIFFERENT * counts.total()):
        return replace(facts, entry=make_entry(type="category", na_means="absent"))
    return replace(
        facts,
        entry=make_entry(type="text"),
        said="left out: text, different in nearly every row; list it under `columns` to say otherwise",
    )


def make_entry(**keys: Any) -> dict[str, Any]:
    """An entry as read_dictionary returns it."""
    return Column.model_validate(keys).model_dump(exclude_none=True)


def tell_odd(facts: Facts) -> Facts:
    """The facts of a column in which odd words count as missing, with these in its entry and in words."""
    if not facts.odd:
        return facts
    said = ", ".join(f"{word!r} ({count:,})" for word, count in [*facts.odd.items()][:5])
    rest = " ..." if len(facts.odd) > 5 else ""
    entry = facts.entry | {"missing": list(facts.odd)}
    total = sum(facts.odd.values())
    return replace(
        facts, entry=entry, said=f"{total:,} value(s) are no {entry['type']} and count as missing: {said}{rest}"
    )
