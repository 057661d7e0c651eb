"""The application of stages.serve in this process, on a free port of this machine."""

import threading
import time
from contextlib import contextmanager

import requests
import uvicorn

from stages.serve import EndingProtocol, bind_port, make_app


@contextmanager
def serving(pipeline):
    """A session of requests, and the address that answers them."""
    bound = bind_port("127.0.0.1", 0)
    config = uvicorn.Config(make_app(pipeline, "test"), log_level="critical", http=EndingProtocol)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        with requests.Session() as session:
            yield session, f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
