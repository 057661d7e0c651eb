"""A real `mlflow server` on a free port of this machine, which a test can stop and start again."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress

import requests

PATIENCE = 1200  # seconds; only a hang takes them, also on a machine that is ten times slower


def answers(url):
    """Whether a server says that all is well."""
    try:
        return requests.get(url, timeout=10).ok
    except (requests.ConnectionError, requests.Timeout):
        return False


def wait_until(ready, process, log=None):
    """What `ready` returns as soon as it is something; fails at once if the process has ended."""
    deadline = time.monotonic() + PATIENCE
    while not (found := ready()):
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
        said = log.read_text() if log else ""
        assert process.poll() is None, f"ended with {process.poll()}: {said}"
        assert time.monotonic() < deadline, said
    return found


class Drip:
    """A proxy before a server, which answers byte by byte, too slowly to end, once it was asked so often for a mark."""

    def __init__(self, port, mark, times):
        self.target, self.mark, self.left = port, mark, times
        self.slow, self.over, self.threads = threading.Event(), threading.Event(), []

    def __enter__(self):
        self.proxy = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.proxy.getsockname()[1]}"
        self.begin(self.accept)
        return self

    def __exit__(self, *_):
        self.over.set()
        self.proxy.shutdown(socket.SHUT_RDWR)
        for thread in self.threads:
            thread.join(60)
        self.proxy.close()

    def begin(self, work, *args):
        self.threads.append(threading.Thread(target=work, args=args))
        self.threads[-1].start()

    def accept(self):
        with suppress(OSError):
            while True:
                client, _ = self.proxy.accept()
                server = socket.create_connection(("127.0.0.1", self.target))
                self.begin(self.ask, client, server)
                self.begin(self.answer, client, server)

    def ask(self, client, server):
        with suppress(OSError):
            while said := client.recv(65536):
                self.left -= self.mark in said
                if self.left <= 0:
                    self.slow.set()
                server.sendall(said)
            server.shutdown(socket.SHUT_WR)

    def answer(self, client, server):
        with suppress(OSError), client, server:
            while said := server.recv(65536):
                for number in range(len(said) if self.slow.is_set() else 0):
                    client.sendall(said[number : number + 1])
                    if self.over.wait(0.5):
                        return
                if not self.slow.is_set():
                    client.sendall(said)


class Server:
    """Its database and its artifacts lie in a folder."""

    def __init__(self, folder):
        self.folder, self.log, self.process = folder, folder / "server.log", None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"

    def start(self, artifacts=None):
        """artifacts: where they lie, if elsewhere."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)]
        command += ["--backend-store-uri", f"sqlite:///{self.folder / 'server.db'}", "--serve-artifacts"]
        command += ["--artifacts-destination", str(artifacts or self.folder / "artifacts"), "--workers", "1"]
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )
        wait_until(lambda: answers(f"{self.address}/health"), self.process, self.log)

    def watch(self, act):
        """The requests that it gets while something is done: (method, path)."""
        before = len(self.log.read_text())
        act()
        mark = f"mark={before}"
        requests.get(f"{self.address}/health?{mark}", timeout=60)
        deadline = time.monotonic() + 60
        while mark not in (logged := self.log.read_text()[before:]):  # its log follows its answers
            assert time.monotonic() < deadline, logged
        return re.findall(r'"([A-Z]+) (/[^ ?]*)', logged.partition(mark)[0])[:-1]

    def stop(self):
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
