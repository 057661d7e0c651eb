"""serve: the model in Production over REST, with a page at /docs that shows every column and an example row.

Reads   the registered model
Writes  nothing; answers at /invocations, /ping and /version in the forms of `mlflow models serve`

A request is held against the same rules as a file for stages.predict, and each refusal is one line: {"error": "..."}.
"""

import asyncio
import socket
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import pandas as pd
import pyarrow as pa
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from pydantic import BaseModel, FailFast, Field, StrictBool, StrictStr, ValidationError, create_model
from starlette.exceptions import HTTPException as HTTPError
from typing_extensions import TypedDict
from uvicorn.protocols.http.h11_impl import H11Protocol

from stages.registry.loading import add_model_arguments, open_model
from stages.shared.cli import InputError, make_parser, run_command
from stages.table.checks import CELLS, Rule, Tally, check_batch, check_rows, make_rules
from stages.table.columns import name_target
from stages.table.reading import Dialect, describe_failure, find_dialect, join_some, parse_csv

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

LIMIT = 16 * 2**20  # bytes of a request: about 10,000 rows of 80 columns as JSON; more is a case for stages.predict
LONGEST_ERROR = 400
SECONDS_FOR_BODY = 30
Quantity = Annotated[float, Field(strict=True, allow_inf_nan=False)]
JSON, CSV = "application/json", "text/csv"
FORMS = '{"dataframe_records": [rows]}, or one of dataframe_split, inputs, instances'


class Split(BaseModel):
    """Column names once, and rows as lists."""

    columns: list[str]
    data: list[list[Any]]

    def pair(self) -> list[dict[str, Any]]:
        """The rows as records. Raises InputError for a row of another length."""
        if len(set(self.columns)) < len(self.columns):
            raise InputError("columns that are there twice")
        for number, row in enumerate(self.data, start=1):
            if len(row) != len(self.columns):
                raise InputError(f"row {number} must be a list of {len(self.columns)} values, one for each column")
        return [dict(zip(self.columns, row, strict=True)) for row in self.data]


class Body(BaseModel):
    """A body in JSON: exactly one of these."""

    dataframe_records: Any = None
    instances: Any = None
    inputs: Any = None
    dataframe_split: Split | None = None


def make_body_type(rules: list[Rule]) -> type[Body]:
    """What a JSON body may be, as pydantic checks it and /docs shows it: rows of numbers or text, or null."""
    fields = {}
    for rule in rules:
        said = [f"{rule.low:g} or more"] if rule.low > float("-inf") else []
        said += [f"{rule.high:g} or less"] if rule.high < float("inf") else []
        said += [rule.level_rule.removeprefix("must be ")] if rule.levels else []
        said += [f"a date, as {rule.date}"] if rule.date else []
        kind = Quantity if rule.number else StrictBool | StrictStr | Quantity if rule.flag else StrictStr
        fields[rule.name] = Annotated[kind | None, Field(description="; ".join(said) or None)]
    rows: Any = (Annotated[list[TypedDict("Row", fields)], FailFast()], None)  # type: ignore[misc, operator]
    return create_model("Body", __base__=Body, dataframe_records=rows, instances=rows, inputs=rows)


def make_app(pipeline: "Pipeline", version: str) -> FastAPI:
    """The application around a pipeline from raw rows to the target."""
    encoder = pipeline["encoder"]
    rules = make_rules({name: column.is_number for name, column in encoder.columns_.items()}, encoder.dictionary)
    body_type = make_body_type(rules)
    dialect = find_dialect(encoder.dictionary)
    app = FastAPIOffline(title=f"{name_target(encoder.dictionary)}, from raw rows", version=version)

    @app.post("/invocations", openapi_extra={"requestBody": describe_body(body_type, rules)})
    async def predict(request: Request) -> dict[str, list[float]]:
        """The predictions for some rows: as records or split, as `inputs` or `instances`, or as CSV."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in (JSON, CSV):
            found = f"found {kind}" if kind else "the request has none"
            raise HTTPException(415, f"content type must be {JSON} or {CSV}; {found}")
        body = await read_body(request)
        reader = partial(read_json, body_type=body_type) if kind == JSON else partial(read_csv, dialect=dialect)
        rows = await run_in_threadpool(reader, body, rules)
        return {"predictions": (await run_in_threadpool(pipeline.predict, rows)).tolist()}

    @app.get("/ping")
    def ping() -> PlainTextResponse:
        return PlainTextResponse("\n")

    @app.get("/version")
    def show_version() -> PlainTextResponse:
        return PlainTextResponse(version)

    @app.exception_handler(HTTPError)
    async def refuse(_: Request, error: HTTPError) -> JSONResponse:
        return JSONResponse({"error": error.detail[:LONGEST_ERROR]}, error.status_code)

    @app.exception_handler(InputError)
    async def refuse_input(_: Request, error: InputError) -> JSONResponse:
        return JSONResponse({"error": str(error)[:LONGEST_ERROR]}, 400)

    return app


def describe_body(body_type: type[Body], rules: list[Rule]) -> dict[str, Any]:
    """What /docs says of the body: its schema, and a row as an example."""
    example = {r.name: r.levels[0] if r.levels else min(max(r.low, 1.0), r.high) if r.number else None for r in rules}
    schema = body_type.model_json_schema()
    shown = {"schema": schema, "example": {"dataframe_records": [example]}}
    return {"required": True, "content": {JSON: shown, CSV: {"schema": {"type": "string"}}}}


async def read_body(request: Request) -> bytes:
    """The whole body. One above the limit is read on but not kept, so that its sender gets to hear of it."""
    chunks, size = [], 0
    try:
        async with asyncio.timeout(SECONDS_FOR_BODY):
            async for chunk in request.stream():
                size += len(chunk)
                if size > 8 * LIMIT:
                    break
                chunks.append(chunk if size <= LIMIT else b"")
    except TimeoutError:
        raise HTTPException(408, f"the body did not arrive within {SECONDS_FOR_BODY} s") from None
    if size > LIMIT:
        limit = f"larger than {LIMIT / 2**20:g} MB"
        raise HTTPException(413, f"the body is {limit}; send fewer rows, or use stages.predict")
    return b"".join(chunks)


def read_json(body: bytes, rules: list[Rule], body_type: type[Body]) -> pd.DataFrame:
    """The rows of a JSON body. Raises InputError unless it has one of MLflow's forms, and rows that fit."""
    if not body.strip():
        raise InputError("the body is empty")
    try:
        content = body_type.model_validate_json(body)
        split = content.dataframe_split
        if split and not any(rows is not None for name, rows in content if name != "dataframe_split"):
            content = body_type.model_validate({"dataframe_records": split.pair()})
    except ValidationError as error:
        raise InputError(describe_errors(error, {rule.name: rule.wanted for rule in rules})) from None
    given = [rows for _, rows in content if rows is not None]
    if len(given) != 1:
        raise InputError(f"the body must be {FORMS}")
    if not given[0]:
        raise InputError("no rows")
    columns = {rule.name: [row[rule.name] for row in given[0]] for rule in rules}
    for rule in rules:
        if rule.flag:
            columns[rule.name] = [None if value is None else str(value) for value in columns[rule.name]]
    frame = pd.DataFrame({r.name: pd.Series(columns[r.name], dtype=float if r.number else object) for r in rules})
    tally = Tally()
    tally.add(check_rows(frame, rules)[0], frame.index + 1)
    return require_good(frame, tally)


def describe_errors(error: ValidationError, wanted: dict[str, str]) -> str:
    """One line for what pydantic finds wrong with a body."""
    missing, said = dict[str, None](), dict[str, str]()
    for fault in error.errors(include_url=False, include_context=False):
        match fault["loc"]:
            case (str(), int(row), str(name), *_) if fault["type"] == "missing":
                missing[name if row == 0 else f"{name} in row {row + 1}"] = None
            case (str(), int(row), str(name), *_) if name in wanted:
                said.setdefault(
                    name, f"{name}: must be {wanted[name]} or null, found {fault['input']!r:.50} in row {row + 1}"
                )
            case (str(form), *_):
                said.setdefault(form, f'{form} must be a list of rows, each as {{"column": value}}')
            case _:
                found = f": {fault['msg']}" if fault["type"] == "json_invalid" else ""
                said.setdefault("", f"not JSON{found}" if found else f"the body must be {FORMS}")
    listed = [f"missing columns: {join_some(list(missing), most=5)}"] if missing else []
    return join_some([*listed, *said.values()], "; ", most=5)


def read_csv(body: bytes, rules: list[Rule], dialect: Dialect) -> pd.DataFrame:
    """The rows of a CSV body. Raises InputError if it is none, or if a row does not fit."""
    tally, lines, frames, start = Tally(), list[str](), list[pd.DataFrame](), 1
    try:
        numbers = {rule.name: rule.number for rule in rules}
        for batch in parse_csv(pa.BufferReader(body), "CSV", numbers, lines.append, dialect):
            rows, faults, _marks = check_batch(batch, rules)
            tally.add(faults, pd.RangeIndex(start, start + len(rows)))
            frames.append(rows)
            start += len(rows)
    except (pa.ArrowException, UnicodeError) as error:
        raise InputError(describe_failure(error, dialect)) from None
    if lines:
        raise InputError(f"CSV: a line {CELLS}, found {lines[0]}")
    if start == 1:
        raise InputError("no rows")
    return require_good(pd.concat(frames, ignore_index=True), tally)


def require_good(rows: pd.DataFrame, tally: Tally) -> pd.DataFrame:
    if tally.rules:
        raise InputError(join_some([fault.replace("id ", "row ") for fault in tally.describe()], "; ", most=5))
    return rows


def bind_port(host: str, port: int) -> socket.socket:
    """A socket at the address, before the model is loaded. Raises InputError if it is not free."""
    if not host:
        raise InputError("--host must not be empty; 0.0.0.0 means every interface")
    # with the protocol named, asyncio switches off the delay of 40 ms that small answers would otherwise wait for
    bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if sys.platform != "win32":  # where it would let two servers share a port
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError, TypeError, UnicodeError) as error:
        raise InputError(f"{host}:{port}: {error}; choose another with --host or --port") from None
    return bound


class EndingProtocol(H11Protocol):
    """HTTP on one connection, which ends when nothing arrives on it, also before its first request."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)


def main() -> None:
    parser = make_parser("serve", __doc__, "--port 1234")
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1, this machine only")
    parser.add_argument("--port", type=int, default=1234, help="default: 1234; 0 for any free one")
    add_model_arguments(parser)
    args = parser.parse_args()
    bound = bind_port(args.host, args.port)
    host, port = bound.getsockname()
    pipeline = open_model(args.model, trust=args.trust)

    import mlflow

    app = make_app(pipeline, mlflow.__version__)
    config = uvicorn.Config(app, log_level="warning", http=EndingProtocol, timeout_keep_alive=SECONDS_FOR_BODY)
    print(f"serve: {args.model} at http://{host}:{port}/invocations, described at /docs; Ctrl+C ends it", flush=True)
    uvicorn.Server(config).run(sockets=[bound])


if __name__ == "__main__":
    run_command(main)
