"""The draft of a table as people have them, and what a later table has that the draft does not allow."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from stages.describe import draft_table, list_changes, main, show_draft
from stages.shared.cli import InputError
from stages.table.contract import read_table
from stages.table.dictionary import read_dictionary
from stages.table.inference import complete_dictionary

N = 60
RNG = np.random.default_rng(0)
PLAIN = {"a": RNG.normal(size=N), "y": np.arange(1, N + 1) * 1.37}


def write(folder, columns, **options):
    path = folder / "table.csv"
    pd.DataFrame(columns).to_csv(path, index=False, **options)
    return str(path)


def draft(path):
    """The draft, and its dictionary as it is read again; the table is one that it allows."""
    drafted = draft_table(path, "y")
    file = f"{path}.yaml"
    with open(file, "w", encoding="utf-8") as text:  # noqa: PTH123
        text.write(show_draft(drafted, path))
    dictionary = read_dictionary(file)
    read_table(path, complete_dictionary(path, dictionary), log_target=False)
    assert all(": new, " in line for line in list_changes(path, dictionary))  # what is too much for a draft
    return drafted, dictionary


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("columns", "options"),
    [
        (PLAIN, {"sep": ";", "decimal": ","}),
        ({**PLAIN, "m": ["n/a", *map(str, PLAIN["a"][1:])]}, {}),
        ({**PLAIN, "id": ["1,234", *range(1, N)]}, {}),
        ({**PLAIN, "one": [3.5] * (N - 1) + [None]}, {}),
        ({**PLAIN, "id": [10**18 + i for i in range(N)]}, {}),
        ({**PLAIN, "stamp": [1.6e15 + 10**12 * i for i in range(N)]}, {}),
        ({**PLAIN, "flag": ["tRuE", "nO", "yes"] * (N // 3)}, {}),
        ({**PLAIN, "": range(N)}, {}),
        ({**PLAIN, "y": 1e14 + PLAIN["y"]}, {}),
        ({**PLAIN, "c": [f"{i % 40}x" * 2500 for i in range(N)]}, {}),
        ({**PLAIN, "c": ["x" * 140_000, *"ab" * (N // 2 - 1), "c"]}, {}),
    ],
)
def test_table_of_any_kind_is_drafted_and_read_again(tmp_path, columns, options):
    draft(write(tmp_path, columns, **options))


def test_wide_text_leaves_a_draft_that_can_be_read(tmp_path):
    texts = {f"c{i}": [f"{row % 45}{'x' * 100}" for row in range(N)] for i in range(400)}
    _, dictionary = draft(write(tmp_path, {**PLAIN, **texts}))
    assert "c0" in dictionary["columns"]


def test_parquet_with_nan_and_durations_is_drafted(tmp_path):
    values = PLAIN["a"].copy()
    values[3] = np.nan
    path = str(tmp_path / "table.parquet")
    took = pa.array(np.arange(N), pa.duration("s"))
    parquet.write_table(pa.table({"a": pa.array(values), "took": took, "y": PLAIN["y"]}), path)
    assert pa.array(values).null_count == 0
    drafted, _ = draft(path)
    assert "durations" in drafted.notes["took"]


def test_ids_that_begin_with_zeros_are_the_id(tmp_path):
    _, dictionary = draft(write(tmp_path, {"id": [f"{i:03}" for i in range(N)], **PLAIN}))
    assert dictionary["id"] == "id"
    assert dictionary["columns"]["id"]["type"] == "text"


def test_id_that_is_named_may_be_of_whole_numbers(tmp_path):
    drafted = draft_table(write(tmp_path, {"nr": range(7, N + 7), **PLAIN}), "y", "nr")
    assert drafted.dictionary["id"] == "nr"
    assert drafted.notes["nr"] == "names the rows"


def test_words_in_the_target_are_named_and_numbers_with_commas_are_refused(tmp_path):
    y = [*map(str, PLAIN["y"])]
    drafted, _ = draft(write(tmp_path, {**PLAIN, "y": [*y[:-1], "about 80"]}))
    assert any("'about 80'" in finding for finding in drafted.findings)
    for other in ("2,500", "oops"):
        with pytest.raises(InputError, match="y: numbers written as '1,234': say so in the dictionary"):
            draft_table(write(tmp_path, {**PLAIN, "y": [*y[:-2], other, "1,234"][::-1]}), "y")


def test_two_columns_without_a_name_are_said_to_be_two(tmp_path):
    (tmp_path / "table.csv").write_text("a,y,,\n1,2,,\n3,4,,\n")
    with pytest.raises(InputError, match=r"columns that are there twice: \(no name\)"):
        draft_table(str(tmp_path / "table.csv"), "y")


@pytest.mark.parametrize("first", ["", "sep=;"])
def test_first_line_without_names_is_told(tmp_path, first):
    path = tmp_path / "table.csv"
    path.write_text(f"{first}\na;y\n1;2\n3;4\n")
    with pytest.raises(InputError, match="line 1 must be the names of the columns"):
        draft_table(str(path), "y")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": [1, 1, *range(3, N + 1)]}, "id: must be unique"),
        ({"id": [None, *range(2, N + 1)]}, "id: must not be missing"),
        ({"a": [None] * N}, "a: holds no value at all"),
        ({"y": [None] * N}, "y: holds no value at all"),
        ({"y": [2.0] * N}, "y: holds 2 in every row"),
        ({"a": ["x", *PLAIN["a"][1:]]}, "a: must be a number, found 'x'"),
    ],
)
def test_update_tells_what_prepare_would_refuse(tmp_path, change, said):
    table = {"id": range(1, N + 1), **PLAIN}
    entries = {"id": {"type": "number"}, "a": {"type": "number"}, "y": {"type": "number"}}
    (tmp_path / "table.yaml").write_text(yaml.safe_dump({"target": "y", "id": "id", "columns": entries}))
    dictionary = read_dictionary(str(tmp_path / "table.yaml"))
    assert [*list_changes(write(tmp_path, table), dictionary)] == []
    found = [*list_changes(write(tmp_path, {**table, **change}), dictionary)]
    assert len(found) == 1
    assert found[0].startswith(said)


DOUBTS = {
    "a word in one of ten": (
        [*map(str, PLAIN["a"][6:]), *["k.A."] * 6],
        "90 % of its values are numbers, and not 'k.A.' (6)",
    ),
    "percent": ([f"{i / 7:.1f}%" for i in range(N)], "numbers or dates in a form that is not read, as '0.0%'?"),
    "amounts": ([f"${i * 99:,}" for i in range(N)], "numbers or dates in a form that is not read"),
    "short dates": (
        [f"{i % 28 + 1:02}.01.{i % 20:02}" for i in range(N)],
        "numbers or dates in a form that is not read",
    ),
    "thousands": (
        [*range(300, 330), *(f"{i}.{i * 7}" for i in range(31, 61))],
        "three digits behind every dot, as '31.217'",
    ),
    "three decimals above one": ([f"{1 + i / 7:.3f}" for i in range(N)], ""),
    "whole and others": ([*range(30), *(f"{i}.25" for i in range(30, 60))], ""),
    "three decimals": ([f"{i / 7:.3f}" for i in range(N)], ""),
    "names": ([f"A{i % 30}" for i in range(N)], ""),
    "a scale": ([*"123x" * (N // 4)], ""),
}


@pytest.mark.parametrize("case", DOUBTS)
def test_what_may_be_numbers_all_the_same_is_said(tmp_path, capsys, case):
    column, said = DOUBTS[case]
    drafted, _ = draft(write(tmp_path, {**PLAIN, "c": column}))
    found = [finding for finding in drafted.findings if finding.startswith("c: ")]
    assert len(found) == bool(said)
    assert said in "".join(found)
    complete_dictionary(str(tmp_path / "table.csv"), {"target": "y", "columns": {}})
    assert said in capsys.readouterr().err


def test_update_prints_no_name_as_it_is(tmp_path, capsys, monkeypatch):
    (tmp_path / "d.yaml").write_text("target: y\ncolumns: {y: {type: number}}\n")
    path = write(tmp_path, {**PLAIN, "a\033[31mRED\nz": range(N)})
    monkeypatch.setattr("sys.argv", ["describe", path, "--output", str(tmp_path / "d.yaml"), "--update"])
    main()
    assert all(line.isprintable() for line in capsys.readouterr().out.splitlines())


def test_small_target_is_said(tmp_path):
    drafted, _ = draft(write(tmp_path, {**PLAIN, "y": PLAIN["y"] * 1e-9}))
    assert any(finding.startswith("y is small") for finding in drafted.findings)


def test_range_has_no_dust(tmp_path):
    values = np.linspace(-3.4, 3.9, N).round(1)
    _, dictionary = draft(write(tmp_path, {**PLAIN, "c": values}))
    assert all(len(str(bound)) < 6 for bound in dictionary["columns"]["c"]["range"])


UPDATES = {
    "the target is not listed": ({"id": "id"}, {}, []),
    "a feature only": ({}, {"a": [99, *PLAIN["a"][1:]]}, ["a: must be at most 5, found 99.0; 1 row(s), row 1"]),
    "a row without a target before it": (
        {},
        {"y": [None, *PLAIN["y"][1:]], "a": [0, 99, *PLAIN["a"][2:]]},
        ["a: must be at most 5, found 99.0; 1 row(s), row 2"],
    ),
    "neither is there": ({"id": "id"}, {"y": None, "id": None}, ["y: gone", "id: gone"]),
    "rows to predict": (
        {"id": "id"},
        {"y": None, "a": [99, *PLAIN["a"][1:]]},
        ["y: gone", "a: must be at most 5, found 99.0; 1 row(s), id 1"],
    ),
    "no id": (
        {"id": "id"},
        {"id": None, "a": [99, *PLAIN["a"][1:]]},
        ["id: gone", "a: must be at most 5, found 99.0; 1 row(s), row 1"],
    ),
    "a column without a name": ({"id": "id"}, {"": range(N)}, ["(no name): new, {type: text}; left out: a column"]),
}


@pytest.mark.parametrize("case", UPDATES)
def test_update_holds_what_is_there_against_a_dictionary_that_lists_some(tmp_path, case):
    keys, change, said = UPDATES[case]
    (tmp_path / "d.yaml").write_text(
        yaml.safe_dump({"target": "y", **keys, "columns": {"a": {"type": "number", "range": [-5, 5]}}})
    )
    table = {"id": range(1, N + 1), **PLAIN, **change}
    path = write(tmp_path, {name: column for name, column in table.items() if column is not None})
    found = [*list_changes(path, read_dictionary(str(tmp_path / "d.yaml")))]
    assert len([line for line in found if not line.startswith("id: new")]) == len(said)
    assert all(any(line.startswith(start) for line in found) for start in said)
