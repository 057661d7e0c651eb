"""serve: the model in Production over REST, with a page at /docs that shows every column and an example row.

Reads   the registered model
Writes  nothing; answers at /invocations, /ping and /version in the forms of `mlflow models serve`

A request is held against the same rules as a file for stages.predict, and each refusal is one line: {"error": "..."}.
"""

import asyncio
import codecs
import socket
import sys
from email.message import Message
from functools import partial
from typing import TYPE_CHECKING

import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse, PlainTextResponse
from fastapi_offline import FastAPIOffline
from starlette.exceptions import HTTPException as HTTPError
from uvicorn.protocols.http.h11_impl import H11Protocol

from stages.registry.loading import add_model_arguments, open_model
from stages.shared.cli import InputError, make_parser, run_command
from stages.table.checks import make_rules
from stages.table.columns import name_target
from stages.table.dictionary import check_encoding
from stages.table.reading import find_dialect
from stages.table.requests import CSV, JSON, describe_body, make_body_type, read_csv, read_json

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

LIMIT = 16 * 2**20  # bytes of a request: about 10,000 rows of 80 columns as JSON; more is a case for stages.predict
LONGEST_ERROR = 400
SECONDS_FOR_BODY = 30


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
        kind, charset = find_type(request)
        written = dialect._replace(encoding=charset or dialect.encoding)
        body = await read_body(request)
        reader = partial(read_json, body_type=body_type) if kind == JSON else partial(read_csv, dialect=written)
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


def find_type(request: Request) -> tuple[str, str | None]:
    """The type of a request's content, and the encoding that it names. Raises HTTPException for what is not read."""
    header = Message()
    header["content-type"] = given = request.headers.get("content-type", "")
    kind, charset = header.get_content_type(), header.get_content_charset()
    if not given or kind not in (JSON, CSV):
        found = f"found {given}" if given else "the request has none"
        raise HTTPException(415, f"content type must be {JSON} or {CSV}; {found}")
    try:
        encoding = charset and check_encoding(charset)
    except ValueError as error:
        raise HTTPException(415, f"charset {charset:.40}: {error}") from None
    if kind == JSON and encoding and codecs.lookup(encoding).name not in ("utf-8", "ascii"):
        raise HTTPException(415, f"charset {encoding:.40}: JSON must be in UTF-8")
    return kind, encoding


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
