"""The Production model over REST, in a bare environment, and in a container's context: real servers, real HTTP."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pandas as pd
import pytest
import requests

from tests.conftest import ROOT
from tests.server import answers, wait_until

pytestmark = pytest.mark.slow
JSON = {"Content-Type": "application/json"}
CSV = {"Content-Type": "text/csv"}


@contextmanager
def running(command, cwd, env, log):
    """A server as a process, stopped by its own handle. Its port is in the line that the guard prints first."""
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=cwd, env=env, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        yield process
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # and its workers, which are of its own session
        process.wait()


@pytest.fixture(scope="module")
def server(finished_project, tmp_path_factory):
    """The address of `python -m stages.serve` on a free port, with what it printed in `server.log`."""
    log = tmp_path_factory.mktemp("server") / "server.log"
    command = [sys.executable, "-m", "stages.serve", "--port", "0"]
    with running(command, finished_project.root, finished_project.env, log) as process:
        url = wait_until(lambda: re.search(r"http://127\.0\.0\.1:\d+", log.read_text()), process, log).group()
        wait_until(lambda: answers(f"{url}/ping"), process, log)
        yield url
        assert process.poll() is None, log.read_text()
        assert "Traceback" not in log.read_text()
        assert "WARNING" not in log.read_text()


@pytest.fixture(scope="module")
def table():
    return pd.read_csv(ROOT / "data/raw/test.csv", keep_default_na=False, na_values=["NA", ""])


@pytest.fixture(scope="module")
def records(table):
    """test.csv as JSON would have it: numbers, text and null."""
    return json.loads(table.to_json(orient="records"))


@pytest.fixture(scope="module")
def expected(finished_project, tmp_path_factory):
    """What stages.predict says of test.csv, to the cent."""
    output = tmp_path_factory.mktemp("expected") / "prices.csv"
    finished_project.stage("predict", "data/raw/test.csv", "--output", str(output))
    return pd.read_csv(output)["SalePrice"].tolist()


def post(server, body, headers=JSON):
    if not isinstance(body, str | bytes):
        body = json.dumps(body)
    return requests.post(f"{server}/invocations", data=body, headers=headers, timeout=60)


def price(server, rows):
    answer = post(server, {"dataframe_records": rows})
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


def test_one_row_and_all_rows_as_in_batch(server, records, expected):
    assert price(server, records[:1]) == pytest.approx(expected[:1], abs=0.01)
    assert price(server, records) == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("form", ["dataframe_split", "inputs", "instances", "csv"])
def test_every_form_that_mlflow_documents(server, table, records, expected, form):
    if form == "csv":
        answer = post(server, (ROOT / "data/raw/test.csv").read_text(), CSV)
    elif form == "dataframe_split":
        answer = post(server, f'{{"dataframe_split": {table.to_json(orient="split", index=False)}}}')
    else:
        answer = post(server, {form: records})
    assert answer.status_code == 200, answer.text
    assert answer.json()["predictions"] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    "change",
    [
        {"LotFrontage": None, "MSZoning": None, "GarageCars": None},
        {"Neighborhood": "Mars"},
        {"LotArea": 11622, "OverallQual": 5},
        {"LotArea": 11622.5},
        {"Colour": "green", "Rooms": [1, 2]},
        {"OverallQual": 40, "YearBuilt": 3000, "LotArea": 1e12},
    ],
    ids=["missing", "unseen", "integers", "floats", "extra columns", "outside every range"],
)
def test_odd_rows_get_a_price(server, records, change):
    (value,) = price(server, [{**records[0], **change}])
    assert 0 < value < float("inf")


def test_all_values_missing_still_gives_a_price(server, records):
    assert price(server, [dict.fromkeys(records[0])])[0] > 0


def without(row, name):
    return {key: value for key, value in row.items() if key != name}


TEST_CSV = (ROOT / "data/raw/test.csv").read_text()


def add_cell(count):
    """The first house of test.csv with a cell more or less than there are columns."""
    header, first = TEST_CSV.splitlines()[:2]
    return f"{header}\n{first + ',' if count > 0 else first.rpartition(',')[0]}\n"


BAD = {
    "missing column": (lambda row: {"dataframe_records": [without(row, "GrLivArea")]}, JSON, 400, "GrLivArea"),
    "missing in one row": (lambda row: {"dataframe_records": [row, without(row, "LotArea")]}, JSON, 400, "row 2"),
    "text for a number": (lambda row: {"dataframe_records": [{**row, "LotArea": "big"}]}, JSON, 400, "'big'"),
    "number for text": (lambda row: {"dataframe_records": [{**row, "Street": 5}]}, JSON, 400, "Street"),
    "true for a number": (lambda row: {"dataframe_records": [{**row, "LotArea": True}]}, JSON, 400, "LotArea: must be"),
    "list for a number": (lambda row: {"dataframe_records": [{**row, "LotArea": [1]}]}, JSON, 400, "LotArea"),
    "object for text": (lambda row: {"dataframe_records": [{**row, "Street": {"a": 1}}]}, JSON, 400, "Street"),
    "empty body": (lambda _: b"", JSON, 400, "empty"),
    "not JSON": (lambda _: "hello", JSON, 400, "not JSON"),
    "not UTF-8": (lambda _: b"\xff\xfe{", JSON, 400, "not JSON"),
    "a list": (lambda row: [row], JSON, 400, "dataframe_records"),
    "another key": (lambda row: {"rows": [row]}, JSON, 400, "dataframe_records"),
    "two keys": (lambda row: {"inputs": [row], "instances": [row]}, JSON, 400, "dataframe_records"),
    "split beside records": (
        lambda row: {"dataframe_records": [row], "dataframe_split": {"columns": [*row], "data": [[*row.values()]]}},
        JSON,
        400,
        "dataframe_records",
    ),
    "no rows": (lambda _: {"dataframe_records": []}, JSON, 400, "no rows"),
    "rows that are numbers": (lambda _: {"dataframe_records": [1, 2]}, JSON, 400, "list of rows"),
    "uneven split": (lambda _: {"dataframe_split": {"columns": ["a"], "data": [[1, 2]]}}, JSON, 400, "row 1"),
    "columns that are lists": (lambda _: {"inputs": {"LotArea": [1], "Street": []}}, JSON, 400, "list of rows"),
    "wrong content type": (lambda row: {"dataframe_records": [row]}, {"Content-Type": "text/plain"}, 415, "text/plain"),
    "no content type": (lambda _: b"{}", {}, 415, "content type"),
    "unknown charset": (lambda _: "a", {"Content-Type": "text/csv; charset=klingon"}, 415, "no encoding of text"),
    "charset of host names": (
        lambda _: "a",
        {"Content-Type": "text/csv; charset=punycode"},
        415,
        "no encoding of text",
    ),
    "other charset": (
        lambda _: b"{}",
        {"Content-Type": "application/json; charset=latin-1"},
        415,
        "JSON must be in UTF-8",
    ),
    "NaN token": (lambda row: {"dataframe_records": [{**row, "LotArea": float("nan")}]}, JSON, 400, "finite"),
    "Infinity token": (lambda row: {"dataframe_records": [{**row, "LotArea": float("inf")}]}, JSON, 400, "finite"),
    "infinity by overflow": (
        lambda row: json.dumps({"dataframe_records": [{**row, "LotArea": 7}]}).replace(": 7,", ": 1e999,"),
        JSON,
        400,
        "finite",
    ),
    "400 digits": (lambda row: {"dataframe_records": [{**row, "LotArea": 10**400}]}, JSON, 400, "finite"),
    "10,000 brackets": (lambda _: "[" * 10_000 + "]" * 10_000, JSON, 400, "not JSON"),
    "10,000 objects": (lambda _: '{"a":' * 10_000 + "1" + "}" * 10_000, JSON, 400, "not JSON"),
    "50 MB of spaces": (lambda _: b" " * 50_000_000, JSON, 413, "16 MB"),
    "50 MB of JSON": (lambda _: b'{"inputs": "' + b"a" * 50_000_000 + b'"}', JSON, 413, "16 MB"),
    "CSV with a trailing comma": (lambda _: add_cell(1), CSV, 400, "one cell for each column"),
    "CSV with a short row": (lambda _: add_cell(-1), CSV, 400, "one cell for each column"),
    "CSV with nan": (lambda _: TEST_CSV.replace("11622", "nan", 1), CSV, 400, "LotArea"),
    "empty CSV": (lambda _: "", CSV, 400, "empty"),
    "CSV without columns": (lambda _: "a,b\n1,2\n", CSV, 400, "missing columns"),
    "CSV with text for a number": (
        lambda _: TEST_CSV.replace("11622", "huge", 1),
        CSV,
        400,
        "'huge'",
    ),
    "CSV with infinity": (
        lambda _: TEST_CSV.replace("11622", "inf", 1),
        CSV,
        400,
        "LotArea",
    ),
    "Parquet": (lambda _: b"PAR1", {"Content-Type": "application/vnd.apache.parquet"}, 415, "parquet"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_refused_in_one_line_and_the_server_goes_on(server, records, expected, case):
    make, headers, status, said = BAD[case]
    answer = post(server, make(records[0]), headers)
    assert answer.status_code == status, answer.text[:500]
    assert list(answer.json()) == ["error"]
    reason = answer.json()["error"]
    assert said in reason
    assert len(reason) < 400
    assert "\n" not in reason
    assert "Traceback" not in reason
    assert price(server, records[:1]) == pytest.approx(expected[:1], abs=0.01)


def test_other_addresses(server):
    import mlflow

    assert requests.get(f"{server}/ping", timeout=10).status_code == 200
    assert requests.get(f"{server}/version", timeout=10).text == mlflow.__version__
    assert requests.get(f"{server}/invocations", timeout=10).status_code == 405
    assert requests.get(f"{server}/nothing", timeout=10).json() == {"error": "Not Found"}


def test_content_type_is_read_whatever_its_case(server, records, expected):
    answer = post(server, {"dataframe_records": records[:1]}, {"Content-Type": "Application/JSON; charset=UTF-8"})
    assert answer.json()["predictions"] == pytest.approx(expected[:1], abs=0.01)


def test_charset_of_a_csv_is_that_which_its_type_names(server, expected):
    body = "\n".join(TEST_CSV.splitlines()[:2]) + "\n"
    price = post(server, body, CSV).json()["predictions"]
    for charset in ("utf-8", "utf-16", "cp1252"):
        answer = post(server, body.encode(charset), {"Content-Type": f'text/csv; charset="{charset}"'})
        assert answer.json().get("predictions") == price, answer.text
    assert "UTF-8 text" in post(server, body.encode("utf-16"), CSV).json()["error"]


def test_words_for_missing_mean_the_same_as_in_batch(finished_project, server, tmp_path):
    """NULL and None are words, as in a file for stages.predict."""
    text = "\n".join(TEST_CSV.splitlines()[:3]).replace(",RL,", ",NULL,").replace(",Pave,", ",None,") + "\n"
    (tmp_path / "two.csv").write_text(text)
    finished_project.stage("predict", str(tmp_path / "two.csv"), "--output", str(tmp_path / "prices.csv"))
    prices = pd.read_csv(tmp_path / "prices.csv")["SalePrice"].tolist()
    assert post(server, text, CSV).json()["predictions"] == pytest.approx(prices, abs=0.01)


def test_100_000_columns_are_refused_at_once(server):
    wide = ",".join(f"c{i}" for i in range(100_000))
    assert "100,000 columns" in post(server, f"{wide}\n{wide}\n", CSV).json()["error"]


def test_page_describes_every_column_and_an_example_that_can_be_sent(server, records):
    described = requests.get(f"{server}/openapi.json", timeout=10).json()
    content = described["paths"]["/invocations"]["post"]["requestBody"]["content"]["application/json"]
    columns = content["schema"]["$defs"]["Row"]["properties"]
    assert set(columns) == set(records[0]) - {"Id"}
    assert columns["OverallQual"]["description"] == "1 or more; 10 or less"
    assert "NAmes" in columns["Neighborhood"]["description"]
    assert price(server, content["example"]["dataframe_records"])[0] > 0
    page = requests.get(f"{server}/docs", timeout=10).text
    assert "swagger" in page
    assert "://" not in page.replace(server, "")


def test_200_clients_at_once_each_get_the_price_of_their_own_house(server, records, expected):
    with ThreadPoolExecutor(200) as clients:
        found = list(clients.map(lambda row: price(server, [row])[0], records[:200]))
    assert found == pytest.approx(expected[:200], abs=0.01)
    assert len(set(found)) > 190


def test_a_taken_port_and_a_missing_model_are_one_line(server, finished_project):
    port = server.rpartition(":")[2]
    for args, said in ((("--port", port), "choose another"), (("--port", "0", "--model", "99"), "no such model")):
        done = finished_project.stage("serve", *args, check=False)
        assert done.returncode == 1
        assert done.stderr.startswith("error: ")
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1


@pytest.fixture(scope="module")
def bare_environment(finished_project, tmp_path_factory):
    """A virtual environment with the model's own recorded requirements and nothing else; (python, environment)."""
    folder = tmp_path_factory.mktemp("bare")
    code = (
        "import mlflow, shutil\n"
        "path = mlflow.artifacts.download_artifacts('models:/HousePricesPredictor/Production/requirements.txt')\n"
        f"shutil.copy(path, {str(folder / 'requirements.txt')!r})"
    )
    env = {**finished_project.env, "MLFLOW_TRACKING_URI": finished_project.store}
    subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, check=True)
    install(folder / "venv", folder / "requirements.txt", env)
    kept = ("HOME", "LANG", "TMPDIR", "MLFLOW_DISABLE_TELEMETRY", "MLFLOW_TRACKING_URI")
    bare = {key: env[key] for key in kept if key in env}
    return folder / "venv/bin/python", {**bare, "PATH": f"{folder / 'venv/bin'}:/usr/bin:/bin"}


def install(target, requirements, env):
    subprocess.run([sys.executable, "-m", "uv", "venv", "--quiet", "--python", sys.executable, str(target)], check=True)
    command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", str(target / "bin/python")]
    done = subprocess.run(
        [*command, "-r", str(requirements)], env={**os.environ, **env}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_python_example_in_a_bare_environment(bare_environment, expected, tmp_path):
    """The lines of README, far from this repository, with nothing of it on the path."""
    python, env = bare_environment
    shutil.copy(ROOT / "data/raw/test.csv", tmp_path / "test.csv")
    script = """
import json, sys
import mlflow
import pandas as pd

found = {}
for address in ("models:/HousePricesPredictor/Production", "models:/HousePricesPredictor@champion"):
    model = mlflow.pyfunc.load_model(address)
    rows = pd.read_csv("test.csv", keep_default_na=False, na_values=["NA", ""])
    found[address] = model.predict(rows).tolist()
plain = mlflow.sklearn.load_model("models:/HousePricesPredictor/Production")
found["sklearn"] = plain.predict(pd.read_csv("test.csv", keep_default_na=False, na_values=["NA", ""])).tolist()
import stages
print(json.dumps([found, stages.__file__, sys.path]))
"""
    done = subprocess.run(
        [python, "-I", "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found, module, path = json.loads(done.stdout)
    assert len(found) == 3
    for prices in found.values():
        assert prices == pytest.approx(expected, abs=0.01)
    assert "artifacts" in module
    assert str(ROOT) not in path


def test_docker_context_is_complete(finished_project, tmp_path, expected, records):
    """What a container would do, without one: install its requirements, copy its model, run its command."""
    context = tmp_path / "docker"
    env = {**finished_project.env, "MLFLOW_TRACKING_URI": finished_project.store}
    uri = "models:/HousePricesPredictor/Production"
    command = ["mlflow", "models", "generate-dockerfile", "--model-uri", uri, "--output-directory", str(context)]
    subprocess.run([*command, "--env-manager", "local"], cwd=tmp_path, env=env, check=True, capture_output=True)
    lines = (context / "Dockerfile").read_text()
    copied = re.findall(r"^COPY (\S+) \S+$", lines, re.MULTILINE)
    assert copied
    assert all((context / name).exists() for name in copied)
    model = context / copied[0]
    requirements = tmp_path / "requirements.txt"
    needed = [*re.findall(r"pip install (mlflow\S+)", lines), (model / "requirements.txt").read_text()]
    requirements.write_text("\n".join(needed))
    install(tmp_path / "venv", requirements, env)
    # the entry point as it stands, but for the fixed folder and port, and without nginx before it
    (entry,) = re.findall(r"^ENTRYPOINT (.+)$", lines, re.MULTILINE)
    python, flag, code = json.loads(entry)
    port = find_free_port()
    moved = f"; C.MODEL_PATH = {str(model)!r}; C.DEFAULT_INFERENCE_SERVER_PORT = {port}; C._serve"
    assert "; C._serve" in code
    command = [tmp_path / "venv/bin" / python, flag, code.replace("; C._serve", moved)]
    env = {"PATH": f"{tmp_path / 'venv/bin'}:/usr/bin:/bin", "HOME": str(tmp_path), "DISABLE_NGINX": "true"}
    env |= dict(re.findall(r"^ENV (\w+)=(\S+)$", lines, re.MULTILINE)) | {"MLFLOW_MODELS_WORKERS": "1"}
    log, url = tmp_path / "server.log", f"http://127.0.0.1:{port}"
    with running(command, tmp_path, env, log) as process:
        wait_until(lambda: answers(f"{url}/ping"), process, log)
        assert price(url, records[:5]) == pytest.approx(expected[:5], abs=0.01)


def test_plain_mlflow_server_gives_the_same_prices(finished_project, tmp_path, records, expected):
    """`mlflow models serve`, the plain alternative that README names."""
    uri = "models:/HousePricesPredictor/Production"
    env = {**finished_project.env, "MLFLOW_TRACKING_URI": finished_project.store}
    log = tmp_path / "server.log"
    port = find_free_port()
    command = ["mlflow", "models", "serve", "--model-uri", uri, "--env-manager", "local", "--port", str(port)]
    with running([shutil.which(command[0], path=env["PATH"]), *command[1:]], tmp_path, env, log) as process:
        url = f"http://127.0.0.1:{port}"
        wait_until(lambda: answers(f"{url}/ping"), process, log)
        assert price(url, records) == pytest.approx(expected, abs=0.01)


def find_free_port():
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return bound.getsockname()[1]
