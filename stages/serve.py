"""serve: the model in Production over REST: MLflow's own scoring server, behind a guard.

Reads   the registered model
Writes  nothing; answers at /invocations, /ping and /version as `mlflow models serve` does

MLflow's server alone answers 500 to a request without content type or with deep brackets, puts tracebacks and the
whole input into its errors, takes NaN, Infinity, and true for a number, and in the forms `inputs` and `instances` turns
a missing text into the word None, which changes prices. The guard checks a request before MLflow sees it, hands those
two forms on as `dataframe_split`, and every refusal is one line: {"error": "..."}.
"""

import argparse
import asyncio
import io
import json
import socket
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from stages.chunks import LARGEST
from stages.edge import InputError, run_stage

LIMIT = 16 * 2**20  # bytes of a request: about 10,000 houses as JSON; more is a case for stages.predict
SHOWN = 5  # faults named in one answer
FORMATS = ("dataframe_records", "dataframe_split", "inputs", "instances")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]


class RefusedError(Exception):
    """A request that gets no prediction: the HTTP status, and one line that says why."""

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


def guard(app: App, numbers: dict[str, bool], limit: int = LIMIT) -> App:
    """MLflow's scoring app, reached only by requests that fit the model, and with errors of one line.

    numbers: the columns of the model's signature, and whether they hold numbers.
    """

    async def guarded(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        try:
            if scope["path"] == "/invocations" and scope["method"] == "POST":
                body = await read_body(receive, limit)
                body = await asyncio.to_thread(check_request, body, find_content_type(scope), numbers)
                receive = replay(body, receive)
        except RefusedError as refusal:
            await send_error(send, refusal.status, str(refusal))
            return
        await app(scope, receive, shorten_errors(send))

    return guarded


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. One above the limit is read on but not kept, so that its sender gets to hear of it."""
    chunks, size, more = [], 0, True
    while more and size <= 8 * limit:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(400, "the connection ended before the body did")
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
        if size <= limit:
            chunks.append(message.get("body", b""))
        else:
            chunks.clear()
    if size > limit:
        raise RefusedError(413, f"the body is larger than {limit / 2**20:g} MB; send fewer rows, or use stages.predict")
    return b"".join(chunks)


def replay(body: bytes, receive: Receive) -> Receive:
    """What the app receives: the body that was read already, then whatever comes later."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return messages.pop() if messages else await receive()

    return again


def find_content_type(scope: Message) -> str:
    return next((value.decode("latin-1") for name, value in scope["headers"] if name == b"content-type"), "")


def shorten_errors(send: Send) -> Send:
    """Passes answers on as they are, and errors as one line without tracebacks or the input."""
    held: list[Message] = []

    async def shortened(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] >= 400:
            held.append(message)
        elif not held:
            await send(message)
        else:
            held.append(message)
            if not message.get("more_body", False):
                body = b"".join(part["body"] for part in held[1:])
                await send_error(send, held[0]["status"], find_reason(body))

    return shortened


def find_reason(body: bytes) -> str:
    """The first line of an error of MLflow's that says something."""
    text = body.decode("utf-8", "replace")
    try:
        content = json.loads(text)
        text = str(content.get("message") or content.get("detail") or text)
    except (ValueError, AttributeError):
        pass
    lines = text.rpartition("\nError: ")[2].strip().splitlines()
    return lines[0][:300] if lines else "no reason given"


async def send_error(send: Send, status: int, reason: str) -> None:
    body = json.dumps({"error": reason}, ensure_ascii=False).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def check_request(body: bytes, content_type: str, numbers: dict[str, bool]) -> bytes:
    """The body as MLflow reads it rightly. Raises RefusedError unless it is JSON or CSV that fits the signature."""
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("application/json", "text/csv"):
        found = f"found {kind}" if kind else "the request has none"
        raise RefusedError(415, f"content type must be application/json or text/csv; {found}")
    form, columns = read_json_columns(body) if kind == "application/json" else ("csv", read_csv_columns(body, numbers))
    missing = [name for name in numbers if name not in columns]
    if missing:
        raise RefusedError(400, f"missing columns: {join_some(missing)}")
    if not columns[next(iter(numbers))]:
        raise RefusedError(400, "no rows")
    faults = [fault for name, number in numbers.items() if (fault := find_fault(name, columns[name], number))]
    if faults:
        raise RefusedError(400, join_some(faults, "; "))
    if form not in ("inputs", "instances"):
        return body
    data = list(zip(*(columns[name] for name in numbers), strict=True))
    return json.dumps({"dataframe_split": {"columns": list(numbers), "data": data}}).encode()


def join_some(items: list[str], separator: str = ", ") -> str:
    rest = f"{separator}and {len(items) - SHOWN} more" if len(items) > SHOWN else ""
    return separator.join(items[:SHOWN]) + rest


def find_fault(name: str, values: list[Any], number: bool) -> str:
    """The first value of a column that is not of its type, as a line; an empty one if all are."""
    allowed = {int, float, type(None)} if number else {str, type(None)}
    if not set(map(type, values)) <= allowed:
        row = next(row for row, value in enumerate(values) if type(value) not in allowed)
        return f"{name}: must be {'a number' if number else 'text'} or null, found {values[row]!r:.50} in row {row + 1}"
    if number:
        for row, value in enumerate(values):
            if value is not None and not abs(value) <= LARGEST:
                return f"{name}: must be finite and at most {LARGEST:g} in size, not so in row {row + 1}"
    return ""


def read_json_columns(body: bytes) -> tuple[str, dict[str, list[Any]]]:
    """Which of MLflow's JSON forms a body has, and its columns. Raises RefusedError for anything else."""

    def refuse_constant(token: str) -> None:
        raise RefusedError(400, f"{token} is not JSON; write a missing value as null")

    if not body.strip():
        raise RefusedError(400, "the body is empty")
    try:
        content = json.loads(body, parse_constant=refuse_constant)
    except RecursionError:
        raise RefusedError(400, "not JSON that can be read: too many brackets inside each other") from None
    except ValueError as error:
        raise RefusedError(400, f"not JSON: {error!s:.100}") from None
    found = [key for key in FORMATS if key in content] if isinstance(content, dict) else []
    if len(found) != 1:
        raise RefusedError(400, f'the body must be {{"dataframe_records": [rows]}}, or one of {", ".join(FORMATS[1:])}')
    form, table = found[0], content[found[0]]
    if form == "dataframe_split":
        return form, split_columns(table)
    if isinstance(table, dict) and form == "inputs" and all(isinstance(values, list) for values in table.values()):
        return form, check_lengths(table)
    if isinstance(table, list) and all(isinstance(row, dict) for row in table):
        return form, record_columns(table)
    raise RefusedError(400, f'{form} must be a list of rows, each as {{"column": value}}')


def record_columns(rows: list[dict[str, Any]]) -> dict[str, list[Any]]:
    if not rows:
        raise RefusedError(400, "no rows")
    names = list(dict.fromkeys(name for row in rows for name in row))
    for number, row in enumerate(rows, start=1):
        if len(row) < len(names):
            lacking = [name for name in names if name not in row]
            raise RefusedError(400, f"row {number} lacks columns that other rows have: {join_some(lacking)}")
    return {name: [row[name] for row in rows] for name in names}


def split_columns(table: Any) -> dict[str, list[Any]]:
    names, rows = (table.get("columns"), table.get("data")) if isinstance(table, dict) else (None, None)
    if not (isinstance(names, list) and isinstance(rows, list)) or not all(isinstance(name, str) for name in names):
        raise RefusedError(400, 'dataframe_split must be {"columns": [names], "data": [rows]}')
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list) or len(row) != len(names):
            raise RefusedError(400, f"row {number} must be a list of {len(names)} values, one for each column")
    return {name: [row[position] for row in rows] for position, name in enumerate(names)}


def check_lengths(table: dict[str, list[Any]]) -> dict[str, list[Any]]:
    if len({len(values) for values in table.values()}) > 1:
        raise RefusedError(400, "the columns are not all of one length")
    return table


def read_csv_columns(body: bytes, numbers: dict[str, bool]) -> dict[str, list[Any]]:
    """The columns of a CSV body, as MLflow reads it. Raises RefusedError if it is none."""
    import pandas as pd

    try:
        table = pd.read_csv(io.StringIO(body.decode()), dtype=str, index_col=False).astype(object)
    except pd.errors.EmptyDataError:
        raise RefusedError(400, "the body is empty") from None
    except ValueError as error:
        raise RefusedError(400, f"not CSV: {str(error).strip().splitlines()[-1]:.200}") from None
    columns = table.where(table.notna(), None).to_dict("list")
    return {name: [to_number(v) for v in values] if numbers.get(name) else values for name, values in columns.items()}


def to_number(text: str | None) -> str | float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def bind_port(host: str, port: int) -> socket.socket:
    """A socket at the address, before the model is loaded. Raises InputError if it is not free."""
    # with the protocol named, asyncio switches off the delay of 40 ms that small answers would otherwise wait for
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        raise InputError(f"{host}:{port}: {error}; choose another with --port") from None
    return bound


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.serve", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="Production", help="stage, version number or @alias (default: Production)")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    parser.add_argument("--port", type=int, default=1234, help="default: 1234; 0 for any free one")
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    bound = bind_port(args.host, args.port)
    host, port = bound.getsockname()

    from stages.predict import find_uri, load_registered

    uri = find_uri(args.model)
    model = load_registered(uri, lambda mlflow, uri: mlflow.pyfunc.load_model(uri))

    import uvicorn
    from mlflow.pyfunc import scoring_server
    from mlflow.types import DataType

    schema = model.metadata.get_input_schema()
    numbers = {
        name: kind == DataType.double for name, kind in zip(schema.input_names(), schema.input_types(), strict=True)
    }
    app = guard(scoring_server.init(model), numbers)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    print(f"serve: {uri} at http://{host}:{port}/invocations; Ctrl+C ends it", flush=True)
    server.run(sockets=[bound])


if __name__ == "__main__":
    run_stage(main)
