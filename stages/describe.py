"""describe: a table → the draft of its dictionary, and what to look at before anything is learned from it.

Reads   a CSV or Parquet table; with --update, its dictionary too
Writes  the draft, beside the table unless --output says where; with --update nothing
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np
import pandas as pd

from stages.shared.cli import InputError, make_parser, run_command, show_line
from stages.shared.files import require_file, require_writable, write_whole
from stages.table.contract import check_part, read_table
from stages.table.dictionary import read_dictionary
from stages.table.drafting import show_comment, show_entry, show_value, widen
from stages.table.inference import Facts, study_columns
from stages.table.profile import are_codes, find_id, find_leaks, find_unit, find_useless
from stages.table.reading import find_dialect, join_some, read_names, show_name
from stages.table.sniffing import sniff

MOST_LEVELS = 50  # that a contract lists
MOST_VALUES = 30_000  # in a draft, which must stay a file of settings
MOST_LETTERS = 1_000_000  # likewise
LONGEST_LEVELS = 5_000  # letters of a column's levels
LONGEST_EXAMPLE = 10  # characters of a number or a date
SMALL = 1e-3  # between the ends of a target
USUAL = {"na_means": "unknown", "feature": True}  # what need not be said of a column


@dataclass
class Draft:
    """A dictionary, with what to say of its columns and of the table.

    notes: what each column holds. findings: what a person should look at.
    """

    dictionary: dict[str, Any]
    n_rows: int
    notes: dict[str, str]
    findings: list[str] = field(default_factory=list)


def draft_table(path: str, target: str, id_name: str | None = None) -> Draft:
    """The draft of a table's dictionary. Raises InputError if the table cannot be read, or if its target is not one of
    its columns, or no number.
    """
    written = sniff(path)
    names = read_names(path, find_dialect(written))
    for key, name in (("--target", target), ("--id", id_name)):
        if name is not None and name not in names:
            raise InputError(f"{key} {name}: no column of {path}, which has {join_some(names)}")
    if target == id_name:
        raise InputError(f"--id {id_name}: is the target; another column names the rows, or none")
    dictionary: dict[str, Any] = {"target": target, **({"id": id_name} if id_name else {}), **written}
    facts = study_columns(path, dictionary, names)
    if facts[target].low is None:
        shown = ", ".join(repr(word) for word in list(facts[target].counts)[:3])
        raise InputError(f"--target {target}: must be a column of numbers; found {shown or 'no value'} in {path}")
    if len(facts[target].counts) == 1:
        raise InputError(f"--target {target}: holds {next(iter(facts[target].counts))} in every row of {path}")
    entries = {name: fact.entry for name, fact in facts.items()}
    rows = read_table(path, {**dictionary, "columns": entries}, log_target=False)
    useless = find_useless({name: fact for name, fact in facts.items() if name not in (target, id_name)})
    if not id_name and (found := find_id(useless)):
        dictionary["id"] = found
    useless.pop(dictionary.get("id", ""), None)
    dictionary["columns"] = {
        name: draft_column(fact, usable=name not in useless, named=name == dictionary.get("id"))
        for name, fact in facts.items()
    }
    dictionary["columns"] = take_first(dictionary["columns"])
    notes = {name: note_column(fact, useless.get(name)) for name, fact in facts.items()}
    notes |= {dictionary["id"]: "names the rows"} if "id" in dictionary else {}
    features = rows.drop(columns=[*useless, *([dictionary["id"]] if "id" in dictionary else [])], errors="ignore")
    doubts = [f"{target} {reason}: is it to be learned?" for reason in find_useless({target: facts[target]}).values()]
    return Draft(dictionary, facts[target].rows, notes, [*doubts, *list_findings(features, facts, target)])


def take_first(columns: dict[str, Any]) -> dict[str, Any]:
    """As many columns as a file of settings may hold; what is not listed is inferred all the same."""
    sizes = [
        2 + sum(2 + (len(value) if isinstance(value, list) else 0) for value in c.values()) for c in columns.values()
    ]
    letters = [len(show_entry(name, column)) for name, column in columns.items()]
    fits = [n <= MOST_VALUES and m <= MOST_LETTERS for n, m in zip(*map(accumulate, (sizes, letters)), strict=True)]
    return {name: column for (name, column), fit in zip(columns.items(), fits, strict=True) if fit}


def draft_column(fact: Facts, *, usable: bool, named: bool) -> dict[str, Any]:
    """What the dictionary is to say of a column.

    usable: whether anything can be learned from it. named: whether it is the id.
    """
    column = {key: value for key, value in fact.entry.items() if USUAL.get(key) != value}
    if named and column["type"] == "nominal":  # numbers that begin with 0 name rows as text
        return {"type": "text"}
    if column["type"] == "text" or not usable:
        return column if column["type"] == "text" else {**column, "feature": False}
    if column["type"] == "number" and not named:
        return {**column, "range": widen(float(fact.low or 0), float(fact.high or 0))}
    few = 0 < len(fact.counts) <= MOST_LEVELS and sum(map(len, fact.counts)) <= LONGEST_LEVELS
    if column["type"] == "category" and few:
        return {**column, "levels": sorted(fact.counts)}
    return column


def note_column(fact: Facts, useless: str | None = None) -> str:
    """What a column holds: its ends or its commonest values, and how much is missing."""
    said = [f"left out: {useless}"] if useless else [fact.said] if fact.entry["type"] == "text" else []
    commonest = list(fact.counts.items())[:3]
    if fact.low is not None:
        low, high = (end if isinstance(end, str) else f"{end:.6g}" for end in (fact.low, fact.high))
        short = [value for value, _ in commonest if len(value) <= LONGEST_EXAMPLE]
        said.append(f"{low} to {high}{', as ' if short else ''}{' · '.join(short)}")
    elif fact.entry["type"] in ("category", "flag") and len(fact.counts) <= MOST_LEVELS:
        said.append(", ".join(f"{value} {show_share(count / fact.rows)}" for value, count in commonest))
    elif commonest:
        said.append(f"{len(fact.counts):,} values, as {', '.join(f'{value:.40}' for value, _ in commonest)}")
    if fact.missing:
        said.append(f"{show_share(fact.missing / fact.rows)} missing")
    return "; ".join(said)


def show_share(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %"


def list_findings(features: pd.DataFrame, facts: dict[str, Facts], target: str) -> Iterator[str]:
    """What to look at first, the worst on top: the column, what is seen, and what to do about it.

    features: the target, and the columns that something can be learned from.
    """
    for name, share in find_leaks(features, target).items():
        yield (
            f"{name} alone explains {100 * share:.0f} % of {target}: a leak? If it is not known before {target} is, "
            "write `feature: false`"
        )
    if facts[target].missing:
        yield f"{target} is missing in {facts[target].missing:,} row(s), which are left out"
    if 0 < np.ptp(facts[target].numbers) < SMALL:
        yield f"{target} is small: trees and XGBoost take differences far below {SMALL} for none; use a smaller unit"
    if twice := int(features.duplicated().sum()):
        yield f"{twice:,} row(s) are copies of others; one copy to learn from and one to test on flatter a model"
    for name, fact in facts.items():
        if fact.said and not fact.said.startswith("left out: text"):
            yield f"{show_name(name)}: {fact.said}"
        if fact.doubt:
            yield f"{show_name(name)}: {fact.doubt}"
        if fact.entry["type"] == "date":
            yield f"{name} holds dates: `data.split: {{time: {name}}}` tests on days after those that are learned from"
        if name in features and name != target and fact.entry["type"] == "number" and are_codes(features[name]):
            yield f"{name}: codes? If its numbers are names, write `type: nominal`"


def show_draft(draft: Draft, path: str) -> str:
    """The draft as YAML."""
    dictionary, target = draft.dictionary, draft.dictionary["target"]
    unit = find_unit(target)
    lines = [
        f"# Drafted from {show_comment(Path(path).name)}, {draft.n_rows:,} rows, by `python -m stages.describe`.",
        "# Read it, correct it, and it is the contract: a table that breaks it is refused. Keys: docs/DICTIONARY.md",
        *(["#", "# Look at these first:"] if draft.findings else []),
        *(f"# - {show_comment(finding)}" for finding in draft.findings),
        "",
        "# about: what the table holds, in a sentence",
        "# limits: [what its models are not for]",
        f"unit: {show_value(unit)} # of the target" if unit else "# unit: of the target, as in grams",
        "# row: what a row is, as in apple",
        *(f"{key}: {show_value(value)}" for key, value in dictionary.items() if key != "columns"),
        "",
        "columns:",
        *(show_entry(name, column, draft.notes[name]) for name, column in dictionary["columns"].items()),
    ]
    return "\n".join(lines) + "\n"


def show_overview(draft: Draft, path: str) -> str:
    """The same for the terminal, in a few lines."""
    target, columns = draft.dictionary["target"], draft.dictionary["columns"]
    kinds: dict[str, list[str]] = {}
    for name, column in columns.items():
        useless = column["type"] == "text" or not column.get("feature", True)
        kind = "id" if name == draft.dictionary.get("id") else "left out" if useless else column["type"]
        if name != target:
            kinds.setdefault(kind, []).append(name)
    lines = [
        f"{path}: {draft.n_rows:,} rows, {len(draft.notes):,} columns",
        f"  {'target':13} {target}: {draft.notes[target]}",
        *(f"  {kind:8} {len(names):>4} {join_some(names, most=8)}" for kind, names in kinds.items()),
        *(["Look at these first:"] if draft.findings else []),
        *(f"  - {finding}" for finding in draft.findings),
    ]
    return "\n".join(map(show_comment, lines))


def list_changes(path: str, dictionary: dict[str, Any]) -> Iterator[str]:
    """What a table has that its dictionary does not allow, and the other way round: what prepare would refuse, and the
    columns that are new or gone.
    """
    found, columns = read_names(path, find_dialect(dictionary)), dictionary["columns"]
    named = [dictionary[key] for key in ("target", "id") if key in dictionary]
    yield from (f"{name}: gone" for name in {**columns, **dict.fromkeys(named)} if name not in found)
    facts = study_columns(path, dictionary, [name for name in found if name not in columns])
    for name, fact in facts.items():
        if name not in named:
            entry = show_value(draft_column(fact, usable=True, named=False))
            yield f"{show_name(name)}: new, {entry}; {note_column(fact)}"
    columns = columns | {name: fact.entry for name, fact in facts.items()}
    present = {**dictionary, "columns": {name: column for name, column in columns.items() if name in found}}
    if dictionary.get("id") not in found:
        present.pop("id", None)
    try:
        if dictionary["target"] in found:
            read_table(path, present, log_target=False)
        else:  # rows to predict
            yield from check_part(path, present, log_target=False).faults.describe()
    except InputError as error:
        message, faults = error.args
        yield from faults or [message.removeprefix(f"{path}: ")]


def write_draft(draft: Draft, path: str, output: Path) -> None:
    with write_whole(output) as part:
        part.write_text(show_draft(draft, path), encoding="utf-8")
    print(f"{show_overview(draft, path)}\nWritten: {output}")


def main() -> None:
    parser = make_parser("describe", __doc__, "apples.csv --target weight")
    parser.add_argument("table", help="a .csv, .csv.gz or .parquet file")
    parser.add_argument("--target", help="the column to be learned")
    parser.add_argument("--id", help="the column that names the rows (default: one that looks like it)")
    parser.add_argument("--output", help="where the dictionary lies (default: beside the table, as .yaml)")
    parser.add_argument("--force", action="store_true", help="overwrite a dictionary that is there")
    parser.add_argument("--update", action="store_true", help="only say what the table has that its dictionary has not")
    args = parser.parse_args()
    require_file(args.table)
    output = Path(args.output or Path(args.table.removesuffix(".gz")).with_suffix(".yaml"))
    if args.update:
        changes = [*list_changes(args.table, read_dictionary(str(output), args.target))]
        print("\n".join(map(show_line, changes)) or f"{args.table}: as {output} says")
        return
    if not args.target:
        raise InputError("--target: which column is to be learned?")
    if output.suffix not in (".yaml", ".yml"):
        raise InputError(f"--output {str(output)[:200]}: must end in .yaml")
    require_writable(output, "--output")
    if output.exists() and not args.force:
        raise InputError(f"{output}: exists already; --update holds the table against it, --force drafts it again")
    write_draft(draft_table(args.table, args.target, args.id), args.table, output)
    name = re.sub(r"^[^A-Za-z]+|[^A-Za-z0-9]", "", output.stem).title() or "Mine"
    print(f"Next: make new TABLE={quote(args.table)} DICTIONARY={quote(str(output))} NAME={name}")


if __name__ == "__main__":
    run_command(main)
