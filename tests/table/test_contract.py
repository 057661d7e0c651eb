"""The table against its dictionary: what is refused, and in which words."""

import pandas as pd
import pytest

from stages.shared.cli import InputError
from stages.table.contract import read_table
from stages.table.dictionary import read_dictionary


@pytest.fixture
def raw(dictionary, tmp_path):
    """Writes the first houses of the real table, changed by a function, and gives the file's path."""
    table = pd.read_csv("data/raw/train.csv", dtype=str, keep_default_na=False, na_values=["NA", ""])
    table = table.head(200)  # the first with a pool is the 198th

    def write(change=lambda table: table):
        path = tmp_path / "table.csv"
        change(table.copy()).to_csv(path, index=False, na_rep="NA")
        return str(path)

    return write


def put(column, value, row=0):
    def change(table):
        table.loc[row, column] = value
        return table

    return change


def test_good_table_is_typed_and_indexed_by_id(raw, dictionary):
    table = read_table(raw(), dictionary)
    assert table.index.name == "Id"
    assert table["LotArea"].dtype == float
    assert table.loc[1, "SalePrice"] == 208500
    assert "Id" not in table


def test_na_is_missing_but_none_is_a_level(raw, dictionary):
    table = read_table(raw(), dictionary)
    assert pd.isna(table.loc[1, "Alley"])
    assert table.loc[2, "MasVnrType"] == "None"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (put("LotArea", "big"), ["LotArea: must be a number", "'big'", "id 1"]),
        (put("LotArea", "inf"), ["LotArea: must be finite", "id 1"]),
        (put("OverallQual", "11"), ["OverallQual: must be at most 10", "11", "id 1"]),
        (put("Street", "Mud"), ["Street: must be one of Grvl, Pave", "'Mud'", "id 1"]),
        (put("SalePrice", "0"), ["SalePrice: must be", "id 1"]),
        (put("SalePrice", "-5"), ["SalePrice: must be", "id 1"]),
        (put("Id", "2"), ["Id: must be unique", "2"]),
        (lambda t: t.assign(YrSold=None), ["YrSold: holds no value at all"]),
        (lambda t: t.drop(columns="GrLivArea"), ["missing columns: GrLivArea"]),
        (lambda t: t.head(0), ["a header and no rows"]),
    ],
)
def test_fault_names_column_rule_and_rows(raw, dictionary, change, words):
    with pytest.raises(InputError) as error:
        read_table(raw(change), dictionary)
    for word in words:
        assert word in str(error.value)


def test_rows_without_a_target_are_left_out_and_counted(raw, dictionary, capsys):
    table = read_table(raw(lambda t: t.assign(SalePrice=t["SalePrice"].where(t.index > 2))), dictionary)
    assert len(table) == 197
    assert 1 not in table.index
    assert "3 row(s) without SalePrice are left out" in capsys.readouterr().err


def test_no_row_has_a_target(raw, dictionary):
    with pytest.raises(InputError, match="SalePrice: holds no value at all"):
        read_table(raw(lambda t: t.assign(SalePrice=None)), dictionary)


def test_all_faults_are_listed_at_once(raw, dictionary):
    with pytest.raises(InputError) as error:
        read_table(raw(lambda t: put("Street", "Mud", 3)(put("LotArea", "big")(t))), dictionary)
    assert "2 fault(s)" in str(error.value)
    assert "LotArea" in str(error.value)
    assert "Street" in str(error.value)


def test_column_that_nothing_is_learned_from_is_not_read(raw, dictionary):
    columns = dictionary["columns"] | {"Colour": {"type": "text", "feature": True}}
    columns["MoSold"] = {"type": "number", "feature": False}
    table = read_table(raw(lambda t: t.assign(Colour="red", MoSold="five")), {**dictionary, "columns": columns})
    assert not {"Colour", "MoSold"} & set(table)
    assert "ExterQual" in table  # no feature either, but columns are derived from it


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty"),
        (b"\x00\xff\xfe\x80 not a table", "not UTF-8"),
        ("Prix,Année\n1,2\n".encode("utf-16"), "not UTF-8"),
        (b'a,b\n1,2,3\n"', "missing columns: Id"),
    ],
)
def test_file_that_is_no_table_is_refused(tmp_path, dictionary, content, words):
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words):
        read_table(str(path), dictionary)


def test_missing_file_is_named(dictionary):
    with pytest.raises(InputError, match=r"nowhere\.csv: no such file"):
        read_table("nowhere.csv", dictionary)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id: Id", "target: missing"),
        ("target: y\ncolour: red", "colour: unknown key"),
        ("target: y\ncolumns: {y: {type: category}}", "target: y must be of type number, not category"),
        ("target: y\nid: i\ncolumns: {i: {type: flag}}", "id: i must be of type number or category or text, not flag"),
        ("target: y\ncolumns: {x: {type: date}}", "a date needs its format: ISO8601, or as %d.%m.%Y"),
        ("target: y\ncolumns: {x: {type: date, levels: [a]}}", "a date has none"),
        ("target: y\ncolumns: {x: {type: number, format: ISO8601}}", "only for type date"),
        ("target: y\nid: i\ncolumns: {i: {type: category}, x: {type: number, fill_by: i}}", "i is not a category"),
        ("target: y\nseparator: ab", "separator = 'ab'"),
        ("target: y\nencoding: klingon", "no encoding of text that Python knows"),
        ("target: y\ncolumns: {y: {type: number}, x: {type: ordinal}}", "needs its levels"),
        ("target: y\ncolumns: {y: {type: number}, x: {type: category, levels: [no]}}", "levels"),
        ("target: y\ncolumns: {y: {type: number}}\nderived: {z: {sum: [a, b]}}", "a is not a number"),
        ("target: y\ncolumns: {y: {type: number}}\nderived: {z: {mean: [y]}}", "too_short|at least 2 items"),
        ("- a\n- b", "expected `key: value`"),
        ("a: [", "not a YAML file"),
    ],
)
def test_faulty_dictionary_is_refused(tmp_path, text, words):
    path = tmp_path / "dictionary.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_dictionary(str(path))


def test_target_from_params_takes_the_place_of_the_dictionarys():
    assert read_dictionary("data/dictionary.yaml", "MiscVal")["target"] == "MiscVal"


@pytest.mark.parametrize(
    ("formula", "words"),
    [
        ("{over: [size]}", "over"),
        ("{over: [size, a]}", "over"),
        ("{over: size}", "over"),
        ("{over: 5}", "over"),
        ("{sum: 5}", "sum"),
        ("{sum: []}", "sum"),
        ("{}", "one operation"),
        ("{sum: [size], positive: size}", "one operation"),
        ("{cube: size}", "cube: unknown key"),
        ("5", "derived.new"),
        ("{is: [size, 1]}", "size is not a column with levels"),
        ("{is: place}", "is"),
        ("{mean: [size, size]}", "size is not a column with levels"),
        ("{is: [code, a]}", "code is not a column with levels"),
        ("{mean: [size, code]}", "code is not a column with levels"),
        ("{mean: [later, place]}", "later is not a number, ordinal, nominal, flag or date above it"),
        ("{sum: [y]}", "y is not a number, ordinal, nominal, flag or date above it"),
    ],
)
def test_faulty_formula_is_refused(tmp_path, formula, words):
    path = tmp_path / "dictionary.yaml"
    path.write_text(
        "target: y\nid: code\n"
        "columns: {y: {type: number}, size: {type: number}, place: {type: category}, code: {type: category}}\n"
        f"derived:\n  new: {formula}\n  later: {{sum: [size]}}\n"
    )
    with pytest.raises(InputError, match=words) as error:
        read_dictionary(str(path))
    assert len(str(error.value).splitlines()) == 1


def test_a_target_that_is_the_same_in_every_row_is_refused(raw, dictionary):
    with pytest.raises(InputError, match="SalePrice: holds 208500 in every row; nothing to learn"):
        read_table(raw(lambda table: table.assign(SalePrice="208500")), dictionary)
