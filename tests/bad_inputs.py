"""Bad inputs, as data: what a person, a file, a store or a client may hand in, and no command may take.

test_bad_input.py says for each table how it is handed in. What is listed there is refused with one line (or one line
for each fault), exit code 1 or an answer of 4xx, and leaves everything on disk as it was.
"""

import json
import os
import pickle
import random
from pathlib import Path

import pandas as pd
import pyarrow as pa
from pyarrow import parquet

LONG = "a" * 5000

# cells of the raw table
NO_NUMBER = ["big", "nan", "1,5", "0x10", "1_000", "$100", "TRUE", "2008-01-31", "½", "--1", "1 2", "#REF!", "=1+1"]
TOO_LARGE = ["inf", "-inf", "Infinity", "1e16", "-1e16", "1e999"]
NO_ID = ["", "1.5", "99999.5", "1e30", "-1e30", "9007199254740994", "inf", "nan", "2", "2.0", "one", "0.1"]

PRICED_CELLS = [  # faults behind every door
    *((column, value) for column in ("LotArea", "MSSubClass") for value in NO_NUMBER + TOO_LARGE),
    *(("Id", value) for value in NO_ID),
]
LEARNED_CELLS = [  # faults in the table to learn from, priced elsewhere
    *(("Id", value) for value in ("0", "-1")),
    *(("SalePrice", value) for value in ("0", "-5", "-0.0", *NO_NUMBER, *TOO_LARGE)),
    *(("Street", value) for value in ("Mud", "nan", "null", "None", " Pave", "pave", "Pave\n", "=Pave", "1", "é")),
    *(("MSSubClass", value) for value in ("21", "20.5", "-20")),
]


def break_rule(column: dict) -> str:
    """A value that a column of the dictionary does not allow."""
    low, high = column.get("range", (None, None))
    if "levels" in column:
        return "Mars" if column["type"] in ("category", "ordinal") else "99999"
    return str(high + 1) if high is not None else str(low - 1)


# files in place of a table: bytes, or how to make them from a good table of text
def as_csv(table: pd.DataFrame) -> str:
    return table.to_csv(index=False, na_rep="NA")


def with_line(table: pd.DataFrame, line: str) -> str:
    return as_csv(table) + line


def cut(table: pd.DataFrame, end: str) -> str:
    """The table with `end` behind its fourth line."""
    lines = as_csv(table).splitlines()
    lines[3] += end
    return "\n".join(lines) + "\n"


CSV_FILES = {
    "empty": b"",
    "blank lines": b"\n\n\n",
    "spaces": b"   ",
    "a header alone": lambda table: as_csv(table.head(0)),
    "NUL bytes": b"\0" * 4096,
    "NUL in a cell": lambda table: as_csv(table).replace("Pave", "Pa\0ve", 1),
    "random bytes": random.Random(0).randbytes(4096),  # noqa: S311 - rubbish that is the same each time
    "a picture": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(range(256)),
    "UTF-16": lambda table: as_csv(table).encode("utf-16"),
    "UTF-16 without a mark": lambda table: as_csv(table).encode("utf-16-le"),
    "UTF-32": lambda table: as_csv(table).encode("utf-32"),
    "latin-1": lambda table: as_csv(table.assign(Street="Caf\xe9")).encode("latin-1"),
    "latin-1 in a column that nobody knows": lambda table: as_csv(table.assign(x="Caf\xe9")).encode("latin-1"),
    "latin-1 in a short line": lambda table: with_line(table, "99999,Caf\xe9\n").encode("latin-1"),
    "latin-1 header": lambda table: as_csv(table.assign(Café=1)).encode("latin-1"),
    "another table": b"a,b\n1,2\n",
    "semicolons": lambda table: table.to_csv(index=False, sep=";"),
    "tabs": lambda table: table.to_csv(index=False, sep="\t"),
    "no header": lambda table: table.to_csv(index=False, header=False),
    "a column missing": lambda table: as_csv(table.drop(columns="GrLivArea")),
    "ten columns missing": lambda table: as_csv(table.iloc[:, :-10]),
    "the id missing": lambda table: as_csv(table.drop(columns="Id")),
    "a column twice": lambda table: as_csv(pd.concat([table, table[["LotArea"]]], axis=1)),
    "an unknown column twice": lambda table: as_csv(table.assign(x=1)).replace(",x\n", ",x,x\n", 1),
    "other case": lambda table: as_csv(table.rename(columns=str.lower)),
    "spaces in the header": lambda table: as_csv(table.rename(columns=lambda name: f" {name}")),
    "a cell too many": lambda table: cut(table, ",1"),
    "a trailing comma": lambda table: cut(table, ","),
    "a short row": lambda table: with_line(table, "99999,60\n"),
    "a half line at the end": lambda table: as_csv(table)[:-60],
    "a footer": lambda table: with_line(table, "total of all rows\n"),
    "an open quote": lambda table: cut(table, '"') + '"',
    "10,001 columns": lambda table: ",".join([*table.columns, *(f"x{i}" for i in range(10_001))]) + "\n1\n",
    "a long name": (LONG * 10 + "\n1\n").encode(),
    "HTML": b"<!DOCTYPE html>\n<html><body>404, not found</body></html>\n",
    "JSON": b'{"Id": 1, "LotArea": 2}\n',
    "Parquet in a .csv": lambda table: to_parquet(table),  # noqa: PLW0108 - it is defined below
    "a zip": b"PK\x03\x04" + bytes(100),
    "a gzip": b"\x1f\x8b\x08\0" + bytes(100),
}


def to_parquet(table: pd.DataFrame) -> bytes:
    return to_bytes(pa.Table.from_pandas(table, preserve_index=False))


def to_bytes(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def put_column(name: str, value: object, kind: pa.DataType | None = None):
    """A Parquet file of the good table in which one column holds something else."""

    def make(table: pd.DataFrame) -> bytes:
        arrow = pa.Table.from_pandas(table, preserve_index=False)
        column = pa.array([value] * len(table), kind)
        return to_bytes(arrow.set_column(arrow.column_names.index(name), name, column))

    return make


def twice(table: pd.DataFrame) -> bytes:
    arrow = pa.Table.from_pandas(table, preserve_index=False)
    return to_bytes(arrow.append_column("LotArea", arrow["LotArea"]))


PARQUET_FILES = {
    "empty": b"",
    "no Parquet": b"PAR1 not really PAR1",
    "CSV in a .parquet": as_csv,
    "cut short": lambda table: to_parquet(table)[:-100],
    "its middle gone": lambda table: to_parquet(table)[:200] + to_parquet(table)[-3000:],
    "its start zeroed": lambda table: bytes(400) + to_parquet(table)[400:],
    "no rows": lambda table: to_parquet(table.head(0)),
    "another table": lambda _: to_parquet(pd.DataFrame({"a": [1]})),
    "no columns": lambda table: to_parquet(table[[]]),
    "a column missing": lambda table: to_parquet(table.drop(columns="GrLivArea")),
    "a column twice": twice,
    "lists": put_column("LotArea", [1, 2]),
    "records": put_column("LotArea", {"a": 1}),
    "maps": put_column("LotArea", [("a", 1)], pa.map_(pa.string(), pa.int64())),
    "lists for text": put_column("Street", ["Pave"]),
    "dates for numbers": put_column("LotArea", pd.Timestamp("2008-01-31")),
    "days for numbers": put_column("LotArea", pd.Timestamp("2008-01-31").date(), pa.date32()),
    "durations for numbers": put_column("LotArea", pd.Timedelta(days=1)),
    "truth for numbers": put_column("LotArea", value=True),
    "bytes for numbers": put_column("LotArea", b"\xff\xfe"),
    "words for numbers": put_column("LotArea", "big"),
    "infinity": put_column("LotArea", float("inf")),
    "10**30": put_column("LotArea", 1e30),
    "dates for ids": put_column("Id", pd.Timestamp("2008-01-31")),
    "fractions for ids": put_column("Id", 1.5),
    "one id for all": put_column("Id", 7),
    "no ids": put_column("Id", None, pa.int64()),
    "bytes for text": put_column("Street", b"\xff\xfe"),
}
LEARNED_PARQUET = {
    "dates as target": put_column("SalePrice", pd.Timestamp("2008-01-31")),
    "days as target": put_column("SalePrice", pd.Timestamp("2008-01-31").date(), pa.date32()),
    "times as target": put_column("SalePrice", pd.Timestamp("2008-01-31").time(), pa.time64("us")),
    "truth as target": put_column("SalePrice", value=True),
    "lists as target": put_column("SalePrice", [1]),
    "bytes as target": put_column("SalePrice", b"1"),
    "no target": put_column("SalePrice", None, pa.float64()),
    "numbers for text": put_column("Street", 5),
}

# names that lead to no file, in a folder that holds what make_places made
PLACES = ["nowhere.csv", "folder", "fifo", "loop.csv", "dangling.csv", "/dev/zero", "/dev/null", "/dev/stdin", "", "."]
PLACES += [LONG, f"{LONG}.parquet", "nul\0.csv", "s3://bucket/houses.csv", "https://example.com/houses.csv", "socket"]
PLACES += ["two\nlines.csv", "\033[31mred.csv"]
PLACES += ["loop.csv/houses.csv", "file.txt/houses.csv", "~/houses.csv", "*.csv", "fifo.parquet", "\ud800.csv"]


def make_places(folder: Path) -> None:
    (folder / "folder").mkdir()
    (folder / "file.txt").write_text("hello")
    os.mkfifo(folder / "fifo")
    os.mkfifo(folder / "fifo.parquet")
    os.mknod(folder / "socket", 0o140644)
    (folder / "loop.csv").symlink_to("loop.csv")
    (folder / "dangling.csv").symlink_to("gone.csv")


def make_models(folder: Path) -> None:
    """Folders of models that are none of this project's, or that could run code when they are loaded."""
    import skops.io
    from sklearn.linear_model import LinearRegression
    from sklearn.pipeline import Pipeline

    steps = Pipeline([("encoder", LinearRegression()), ("estimator", LinearRegression())])
    skops_flavor = {"sklearn": {"pickled_model": "model.skops", "serialization_format": "skops"}}
    pickle_flavor = {"sklearn": {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"}}
    loader = {"python_function": {"loader_module": "evil", "code": "code", "data": "data"}}
    for name, flavors, model in [
        ("regression", skops_flavor, LinearRegression()),
        ("steps", skops_flavor, steps),
        ("foreign", skops_flavor, {"a": Evil()}),
        ("damaged", skops_flavor, None),
        ("pickle", pickle_flavor, Evil()),
        ("loader", loader, None),
        ("none", {}, None),
        ("words", {"sklearn": "skops"}, None),
        ("null", None, None),
    ]:
        (folder / name / "code").mkdir(parents=True)
        (folder / name / "code/evil.py").write_text("open('pwned', 'w')\n")
        (folder / name / "MLmodel").write_text(json.dumps({"flavors": flavors, "model_uuid": "x", "run_id": "x"}))
        (folder / name / "model.pkl").write_bytes(pickle.dumps(model))
        (folder / name / "model.skops").write_bytes(
            skops.io.dumps(model) if model is not None else b"PK\x03\x04rubbish"
        )
    (folder / "empty").mkdir()
    (folder / "yaml").mkdir()
    (folder / "yaml/MLmodel").write_text(BOMB)


class Evil:
    """Runs a command when it is taken from a pickle."""

    a = 1

    def __reduce__(self) -> tuple:
        return os.system, ("touch pwned",)


# the dictionary
HEAD = "target: y\nid: i\ncolumns:\n  i: {type: number}\n  y: {type: number}\n  x: {type: number}\n"
HEAD += "  o: {type: ordinal, levels: [a, b]}\n  c: {type: category, levels: [p, q]}\n"
BOMB = "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 10)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
YAML_FILES = {  # bad as a dictionary and as params.yaml alike
    "empty": "",
    "a comment": "# nothing\n",
    "a list": "- a\n- b\n",
    "a word": "hello",
    "a number": "5",
    "null": "null",
    "an open bracket": "a: [",
    "a tab": "a:\n\tb: 1\n",
    "two documents": "a: 1\n---\nb: 2\n",
    "a key twice": "data: {}\ndata: {}\ntarget: y\ntarget: z\n",
    "a key twice, deep": "columns: {x: {type: number, type: category}}\ndata: {seed: 1, seed: 2}\n",
    "a key that is a list": "? [a, b]\n: 1\n",
    "a key that is a mapping": "? {a: b}\n: 1\n",
    "1,000 brackets": "data: " + "[" * 1000 + "]" * 1000,
    "100,000 brackets": "data: " + "[" * 100_000 + "]" * 100_000,
    "5,000 braces": "data: " + "{a: " * 5000 + "1" + "}" * 5000,
    "a bomb": BOMB,
    "a merge bomb": "a: &a {x: 1}\n" + "b: &b {<<: [" + ", ".join(["*a"] * 50_000) + "]}\n",
    "itself": "a: &a [*a]\n",
    "itself, as a mapping": "data: &a {b: *a}\n",
    "an unknown anchor": "a: *b\n",
    "a merge of a word": "a: {<<: hello}\n",
    "code": "data: !!python/object/apply:os.system ['touch pwned']\n",
    "an unknown tag": "data: !hidden 1\n",
    "a date that is none": "data: 2020-99-99\n",
    "UTF-16": "target: y\n".encode("utf-16"),
    "latin-1": "target: caf\xe9\n".encode("latin-1"),
    "random bytes": random.Random(1).randbytes(500),  # noqa: S311
    "NUL": b"target: \0\n",
    "larger than 2 MB": "# " + "x" * (2**21 + 1),
    "300,000 values": "data: [" + "1," * 300_000 + "]",
    "a number of 5,000 digits": "data: " + "9" * 5000 + "\n",
    "a base of 60": "data: " + ":".join(["59"] * 5000) + "\n",
}
DICTIONARIES = {
    "no target": "id: i\n",
    "target null": "target: null\n",
    "target empty": 'target: ""\n',
    "id empty": HEAD.replace("id: i", 'id: ""'),
    "target a number": "target: 5\n",
    "target a list": "target: [y]\n",
    "target a category": HEAD.replace("target: y", "target: c"),
    "target an ordinal": HEAD.replace("target: y", "target: o"),
    "id the target": HEAD.replace("id: i", "id: y"),
    "id an ordinal": HEAD.replace("id: i", "id: o"),
    "id a number": HEAD.replace("id: i", "id: 5"),
    "unknown key": HEAD + "colour: red\n",
    "rare twice": HEAD + "rare: 5\nrare: 6\n",
    "a column twice": HEAD + "  x: {type: number}\n",
    "a type twice": HEAD + "  n: {type: number, type: number}\n",
    "separator two": HEAD + "separator: ab\n",
    "separator a letter": HEAD + "separator: a\n",
    "encoding unknown": HEAD + "encoding: klingon\n",
    "encoding of bytes": HEAD + "encoding: base64\n",
    "encoding of host names": HEAD + "encoding: punycode\n",
    "encoding a number": HEAD + "encoding: 8859\n",
    "decimal a word": HEAD + "decimal: comma\n",
    "thousands a letter": HEAD + "thousands: k\n",
    "decimal and thousands alike": HEAD + 'decimal: ","\nthousands: ","\n',
    "missing a word": HEAD + "missing: none\n",
    "rare zero": HEAD + "rare: 0\n",
    "rare a half": HEAD + "rare: 1.5\n",
    "rare true": HEAD + "rare: true\n",
    "limits a word": HEAD + "limits: none\n",
    "about a list": HEAD + "about: [a]\n",
    "columns a list": "target: y\ncolumns: [y, x]\n",
    "columns a word": "target: y\ncolumns: y\n",
    "columns null": "target: y\ncolumns: null\n",
    "a column a word": "target: y\ncolumns: {y: number}\n",
    "a column null": "target: y\ncolumns: {y: null}\n",
    "a name that is a number": "target: y\ncolumns: {y: {type: number}, 5: {type: number}}\n",
    "a name that is true": "target: y\ncolumns: {y: {type: number}, yes: {type: number}}\n",
    "outliers a command": HEAD + "outliers: '@pd.io.common.os.system(\"touch pwned\")'\n",
    "outliers a rule": HEAD + "outliers: x > 5\n",
    "outliers a number": HEAD + "outliers: 5\n",
    "outliers that match all": HEAD + "outliers: x == x\n",
    "outliers a list": HEAD + "outliers: [x > 5]\n",
}
WITHOUT_FEATURES = {  # tables, for a dictionary that names target and id alone
    "target.csv": "Id,y\n1,2\n2,3\n3,4\n",
    "empty.csv": "Id,y,x\n1,2,\n2,3,\n3,4,\n",
    "remarks.csv": "Id,y,x\n" + "".join(f"{i},{i},seen {i} times\n" for i in range(1, 40)),
    "words.csv": "Id,y,x\n1,big,1\n2,small,2\n3,big,3\n",
    "commas.csv": 'Id,y,x\n1,"2,5",1\n2,"3,5",2\n3,"4,5",3\n',
    "targets.csv": "Id,y,x\n1,,1\n2,NA,2\n3,,3\n",
    "no_target.csv": "Id,x\n1,2\n2,3\n3,4\n",
    "no_id.csv": "x,y\n1,2\n2,3\n3,4\n",
}
COLUMNS = [
    "{}",
    "{type: words}",
    "{type: text, levels: [a]}",
    "{type: text, range: [1, 2]}",
    "{type: flag, levels: ['yes', 'no']}",
    "{type: date, levels: [2020-01-01]}",
    "{type: date, format: 5}",
    "{type: number, format: ISO8601}",
    "{type: number, missing: []}",
    "{type: number, missing: '?'}",
    "{type: number, missing: [5]}",
    "{type: 5}",
    "{type: [number]}",
    "{type: null}",
    "{type: number, colour: red}",
    "{type: number, range: 5}",
    "{type: number, range: [1]}",
    "{type: number, range: [1, 2, 3]}",
    "{type: number, range: [2, 1]}",
    "{type: number, range: [a, b]}",
    "{type: number, range: [.inf, null]}",
    "{type: number, range: [.nan, 1]}",
    "{type: number, range: [2020-01-01, null]}",
    f"{{type: number, range: [0, {'9' * 400}]}}",
    "{type: category, range: [1, 2]}",
    "{type: category, levels: [a], range: [1, 2]}",
    "{type: number, levels: [a, b]}",
    "{type: number, na_means: nothing}",
    "{type: number, fill_by: nowhere}",
    "{type: number, fill_by: x}",
    "{type: number, fill_by: [c]}",
    "{type: category, fill_by: c}",
    "{type: number, feature: maybe}",
    "{type: number, feature: 2}",
    "{type: number, rare: 0}",
    "{type: ordinal}",
    "{type: ordinal, levels: []}",
    "{type: ordinal, levels: a}",
    "{type: ordinal, levels: [a, a]}",
    "{type: ordinal, levels: [[a], [b]]}",
    "{type: ordinal, levels: [1, '1']}",
    "{type: category, levels: [yes, no]}",
    "{type: category, levels: [null]}",
    "{type: category, levels: [1, 1]}",
    "{type: category, levels: [.nan]}",
    "{type: category, levels: [2020-01-01]}",
    "{type: nominal, levels: [a]}",
    "{type: nominal, levels: [.inf]}",
    "{type: nominal, levels: [1, 1.0]}",
]
FORMULAS = [
    "5",
    "[]",
    "{}",
    "null",
    "x",
    "{sum: 5}",
    "{sum: []}",
    "{sum: {}}",
    "{sum: x}",
    "{sum: [nowhere]}",
    "{sum: [c]}",
    "{sum: [i]}",
    "{sum: [y]}",
    "{sum: [z]}",
    "{sum: [[x]]}",
    "{sum: {x: a}}",
    "{sum: {x: .inf}}",
    "{sum: {x: null}}",
    "{sum: null}",
    "{difference: [x]}",
    "{difference: [x, x, x]}",
    "{difference: x}",
    "{difference: {x: 1}}",
    "{product: [x, 5]}",
    "{product: []}",
    "{positive: [x]}",
    "{positive: 5}",
    "{positive: c}",
    "{positive: null}",
    "{over: [x]}",
    "{over: [x, a]}",
    "{over: [x, .nan]}",
    "{over: [5, x]}",
    "{over: x}",
    "{is: [c]}",
    "{is: [x, 1]}",
    "{is: [c, [p]]}",
    "{is: [nowhere, p]}",
    "{is: [c, nowhere]}",
    "{is: [c, 5]}",
    "{mean: [x]}",
    "{mean: [c, x]}",
    "{mean: [x, x]}",
    "{mean: [x, c, c]}",
    "{mean: [y, c]}",
    "{log: x}",
    "{eval: '@os.system(1)'}",
    "{sum: [x], product: [x, x]}",
]

# params.yaml: section, values that take the place of the committed ones
PARAMS = {
    "data": [
        *({"test_size": value} for value in (0, 1, -0.5, 2, "big", None, True, [0.2], float("nan"), float("inf"))),
        *({"seed": value} for value in (-1, 2**32, 1.5, "x", None, True, 10**400)),
        *({key: value} for key in ("path", "dictionary") for value in (5, None, ["a"], {}, True)),
        *({"target": value} for value in (5, ["y"], {}, True)),
        {"sede": 1},
    ],
    "fit": [
        *({"cv_folds": value} for value in (1, -1, 100_000, 101, 2.5, "five", None, True, 10**400)),
        *({"threads": value} for value in (0, -1, 1_000_000, 1.5, "all", None, 10**400)),
        *({"log_target": value} for value in ("maybe", 1, None, [])),
        *({"seed": value} for value in (-1, 2**31, 0.5, None)),
        {"colour": "red"},
    ],
    "blend": [{"within": value} for value in (-0.1, 1.1, "near", None, float("nan"), float("inf"), [], True)],
    "mlflow": [
        *({"experiment": value} for value in ("", "a/b", None, 5, "x" * 300)),
        *({"registered_model": value} for value in ("", "a:b", "it's", None, 5)),
        {"colour": "red"},
    ],
    "register": [
        *({"metric": value} for value in (5, None, ["test_r2"])),
        *({"min_test_r2": value} for value in (1.1, "good", float("nan"), float("-inf"), float("inf"))),
        *({"min_gain": value} for value in (-1, "much", None, float("nan"), float("inf"))),
        *({"promote": value} for value in ("maybe", None, True, 5)),
        *({"refit": value} for value in ("maybe", 1, None)),
        {"champion": "ridge"},
    ],
}
SECTIONS = [None, 5, "seed 42", ["seed"], True]  # in place of a whole section
HYPERPARAMETERS = {
    "linear": [{"fit_intercept": "maybe"}, {"alpha": 1}, {"n_jobs": "all"}, {"n_jobs": 1_000_000}, {"positive": 5}],
    "ridge": [
        *({"alpha": value} for value in (-1.0, "1e-3", "big", None, True, 10**400, float("inf"), float("nan"), [1, 2])),
        *({"solver": value} for value in ("lbfgs", "magic", 5, None)),
        {"alhpa": 1.0},
        {"max_iter": "auto"},
        {"tol": -1},
        {"max_iter": 0},
        {5: 5},
    ],
    "lasso": [{"alpha": -1}, {"max_iter": 1.5}, {"selection": "best"}, {"tol": "small"}, {"precompute": "perhaps"}],
    "decision_tree": [
        *({"max_depth": value} for value in ("deep", 0, -1, 2.5, 10**400)),
        {"criterion": "beauty"},
        {"min_samples_leaf": 0},
        {"max_features": 1.5},
        {"random_state": -1},
    ],
    "random_forest": [
        *({"n_estimators": value} for value in (0, -5, 1.5, True, "many", None, 10**400)),
        {"max_features": 1.5},
        {"n_jobs": 0.5},
        {"max_samples": "all"},
    ],
    "gradient_boosting": [{"loss": "cubic"}, {"learning_rate": -1}, {"subsample": 0}, {"subsample": 2}, {"init": "x"}],
    "xgboost": [
        *({"learning_rate": value} for value in (-1, "fast", float("nan"))),
        *({"max_depth": value} for value in ("seven", -1, 10**400)),
        *({"subsample": value} for value in (0, 2, -1)),
        {"booster": "magic"},
        {"tree_method": "magic"},
        {"objective": "magic"},
        {"max_dept": 7},
        {"n_estimators": 0},
        {"device": "magic"},
    ],
    "lightgbm": [
        {"num_leaves": 1},
        {"num_leafs": 4},
        {"learning_rate": float("nan")},
        {"learning_rate": -1},
        {"n_estimators": -5},
        {"max_bin": 1},
        {"boosting_type": "magic"},
        {"objective": "magic"},
        {"subsample": 0},
        {"min_child_samples": -1},
        {"reg_lambda": -1},
        {"feature_fraction_bynode": 0},
        *({key: 1_000_000} for key in ("n_jobs", "num_threads", "nthread")),
    ],
}

# command lines, in a folder that holds a small finished project
OUT = ["--output", "out.csv"]
PREDICT = ["houses.csv", *OUT]
ODD_MODELS = ["regression", "steps", "foreign", "damaged", "pickle", "loader", "none", "words", "null", "empty", "yaml"]
COMMANDS = {
    "prepare": [["extra"], ["--force"], ["--help me"]],
    "train": [[], ["nothing"], ["ridge", "lasso"], [""], ["Ridge"], ["../ridge"], ["--model", "ridge"], [LONG], ["\0"]],
    "blend": [
        [],
        ["--models"],
        ["--models", "nothing"],
        ["--models", ""],
        ["--models", "ridge", "../ridge"],
        ["ridge"],
        ["--models", "ridge", "ridge"],
        ["--models", "blend"],
        ["--models", LONG],
    ],
    "champion": [
        [],
        ["--models"],
        ["--models", "nothing"],
        ["--models", ""],
        ["--models", "../ridge"],
        ["--models", LONG],
        ["--models", "ridge", "ridge"],
    ],
    "register": [["now"], ["--force"]],
    "predict": [
        [],
        OUT,
        ["houses.csv"],
        ["houses.csv", "--output"],
        [*PREDICT, "--colour"],
        [*PREDICT, "second.csv"],
        *(["houses.csv", "--output", name] for name in ("", "out", "out.txt", "out.CSV.gz", ".csv", ".", "/", "..")),
        *(["houses.csv", "--output", name] for name in ("houses.csv", "./houses.csv", "folder/../houses.csv")),
        *(
            ["houses.csv", "--output", name]
            for name in ("file.txt/out.csv", "/proc/out.csv", f"{LONG}.csv", "nul\0.csv")
        ),
        *(["houses.csv", "--output", name] for name in ("s3://bucket/out.csv", "loop.csv", "loop.csv/out.csv")),
        *(
            ["houses.csv", "--output", name]
            for name in ("fifo.csv", "folder.csv", "link.csv", "hard.csv", "\ud800.csv")
        ),
        ["q.rejects.csv", "--output", "q.csv", "--skip-bad"],
        ["w.marks.csv", "--output", "w.csv"],
        ["q.rejects.csv", "--output", "q.parquet"],
        *([place, *OUT] for place in PLACES),
        *(
            [*PREDICT, "--model", name]
            for name in ("models/nothing", "params.yaml", "./params.yaml", "models/", "./fifo")
        ),
        *([*PREDICT, "--model", name] for name in ("models/unknown", "models/foreign", f"models/{LONG}", "/dev/zero")),
        *(
            [*PREDICT, "--model", name]
            for name in ("99", "@nobody", "", "-1", "Staging", "Nowhere", "models:/Nothing/1")
        ),
        *([*PREDICT, "--model", name] for name in ("models:/", "runs:/nothing/model", "s3://bucket/model", LONG, "\0")),
        *([*PREDICT, "--model", f"odd/{name}"] for name in ("pickle/model.pkl", "regression/model.skops", "pickle")),
        *([*PREDICT, "--model", f"file:odd/{name}"] for name in ODD_MODELS),
        *([*PREDICT, "--trust", "--model", f"file:odd/{name}"] for name in ("none", "null", "regression", "empty")),
        *(
            [*PREDICT, "--model", name]
            for name in ("http://127.0.0.1:9/model", "file:///nowhere", "models:/x/y/z", "a b")
        ),
    ],
    "serve": [
        ["extra"],
        ["--host", ""],
        ["--host", "nowhere.invalid"],
        ["--host", "999.1.1.1"],
        ["--host", LONG],
        ["--host", "\0"],
        ["--host", "8.8.8.8"],
        *(["--port", value] for value in ("-1", "65536", "99999", "http", "", "1.5", "1e3")),
        ["--port", "0", "--model", "99"],
        ["--port", "0", "--model", "models/nothing"],
        ["--port", "0", "--model", "models/foreign"],
    ],
    "tune": [
        [],
        ["nothing"],
        ["linear"],
        *(["ridge", "--trials", value] for value in ("0", "-1", "many", "1.5", "", "99999999999999999999x")),
        *(["ridge", "--repeats", value] for value in ("0", "-1", "x")),
        ["ridge", "lasso"],
    ],
    "history": [
        [],
        ["undo"],
        ["show"],
        *(["show", key] for key in ("nothing", "", "99", "0" * 32, "' or 1=1", LONG, "\0", "é")),
        ["rollback", "99"],
        ["rollback", "one"],
        ["rollback", "-1"],
        ["rollback", ""],
        ["rollback", "1", "2"],
        ["list", "all"],
    ],
}

# the store: MLFLOW_TRACKING_URI
URIS = [
    *("http://", "http:///", "http://[::1", "http://[::1]:x", "http://127.0.0.1:99999", "http://127.0.0.1:0"),
    *("http://127.0.0.1:-1", "http://127.0.0.1:x", "http://nowhere.invalid", "http://\0", "http://a b", "http://é..é"),
    *("sqlite://", "sqlite:///", "sqlite:////", "sqlite:///.", "sqlite:///folder", "sqlite:////nowhere/mlflow.db"),
    *("sqlite:///fifo", "sqlite:////dev/null", "sqlite:////dev/zero", "sqlite:///socket", "sqlite:///loop.csv"),
    *("sqlite:///file.txt/mlflow.db", f"sqlite:///{LONG}", "sqlite:///nul\0.db", "sqlite:///:memory:", "sqlite:/x.db"),
    *("postgresql://a:secret@nowhere/b", "mysql://a:secret@nowhere/b", "ftp://a:secret@nowhere", "redis://nowhere"),
    *("file:///tmp", "mlruns", "databricks", "hello", "://", ":", " ", "http//x"),
    *("http://a:secret@127.0.0.1:9", "https://a:secret@127.0.0.1:9/x", "http://a:se/cret@127.0.0.1:9"),
    *("sqlite+pysqlite:///x.db", "uc:x", "s3://bucket", "file://a:secret@host/x", "javascript:alert(1)"),
]

# requests: what is put into a good record, or a whole body
JSON_CELLS = [
    *(("LotArea", value) for value in ("big", "", "5", True, False, [1], {"a": 1}, 10**400, 1e16, -1e16)),
    *(("MSSubClass", value) for value in ("20", True, [], {}, 2e15)),
    *(("Street", value) for value in (5, 0.5, True, ["Pave"], {"a": 1}, 10**400)),
    *(("ExterQual", value) for value in (3, False, [])),
]
TOKENS = ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "nan", "None", "01", "+5", ".5", "0x10", "'5'", "5,,", "u"]
JSON_BODIES = {
    "empty": b"",
    "spaces": b"   ",
    "a word": b"hello",
    "a number": b"5",
    "null": b"null",
    "a string": b'"rows"',
    "a list": b"[]",
    "no keys": b"{}",
    "another key": b'{"rows": []}',
    "null rows": b'{"dataframe_records": null}',
    "no rows": b'{"dataframe_records": []}',
    "rows an object": b'{"dataframe_records": {}}',
    "rows a string": b'{"dataframe_records": "rows"}',
    "rows numbers": b'{"dataframe_records": [1, 2]}',
    "rows null": b'{"dataframe_records": [null]}',
    "rows lists": b'{"dataframe_records": [[1]]}',
    "a row without columns": b'{"dataframe_records": [{}]}',
    "inputs as columns": b'{"inputs": {"LotArea": [1], "Street": ["Pave"]}}',
    "instances a number": b'{"instances": 5}',
    "split a list": b'{"dataframe_split": []}',
    "split without data": b'{"dataframe_split": {"columns": ["a"]}}',
    "split uneven": b'{"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}',
    "split twice a column": b'{"dataframe_split": {"columns": ["a", "a"], "data": [[1, 2]]}}',
    "split with numbers for names": b'{"dataframe_split": {"columns": [1], "data": [[1]]}}',
    "split rows that are none": b'{"dataframe_split": {"columns": ["a"], "data": [1]}}',
    "split without rows": b'{"dataframe_split": {"columns": [], "data": []}}',
    "a trailing comma": b'{"dataframe_records": [],}',
    "two bodies": b"{}{}",
    "not UTF-8": b"\xff\xfe{",
    "UTF-16": '{"dataframe_records": []}'.encode("utf-16"),
    "a lone surrogate": b'{"dataframe_records": "\\ud800"}',
    "a NUL": b'{"dataframe_records"\0: []}',
    "10,000 brackets": b"[" * 10_000 + b"]" * 10_000,
    "10,000 brackets in a row": b'{"dataframe_records": [{"LotArea": ' + b"[" * 10_000 + b"]" * 10_000 + b"}]}",
    "10,000 objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
    "100,000 empty rows": b'{"dataframe_records": [' + b",".join([b"{}"] * 100_000) + b"]}",
    "100,000 columns": json.dumps({"dataframe_records": [{f"x{i}": 1 for i in range(100_000)}]}).encode(),
    "100,000 columns in a split": json.dumps(
        {"dataframe_split": {"columns": [f"x{i}" for i in range(100_000)], "data": [[1] * 100_000]}}
    ).encode(),
    "a number of a million digits": b'{"dataframe_records": [{"LotArea": ' + b"9" * 1_000_000 + b"}]}",
    "17 MB": b" " * (17 * 2**20),
    "a long error": json.dumps({"dataframe_records": [{"LotArea": LONG}]}).encode(),
}
CSV_BODIES = {
    "100,000 columns": (",".join(f"x{i}" for i in range(100_000)) + "\n" + ",".join(["1"] * 100_000)).encode(),
    "1.5 million columns": b"," * 1_500_000 + b"\n" + b"," * 1_500_000,
    "one line of 5 MB": b"a" * 5_000_000,
}
CONTENT_TYPES = ["", "text/plain", "application/xml", "application/vnd.apache.parquet", "json", "*/*", "text/csvx", "é"]
ADDRESSES = [
    ("GET", "/invocations"),
    ("PUT", "/invocations"),
    ("DELETE", "/ping"),
    ("GET", "/nowhere"),
    ("POST", "/"),
    ("GET", "/../etc/passwd"),
    ("GET", "/" + LONG),
]
