"""A registry on this machine's loopback, for as long as it is needed: Debian's docker-registry, unpacked by setup."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

REGISTRY = Path(__file__).resolve().parents[1] / "build/debian/docker-registry/usr/bin/docker-registry"
PATIENCE = 30.0
_CONFIG = """version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {directory}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@contextlib.contextmanager
def serving(directory: Path) -> Iterator[str]:
    """Serve a registry that keeps what it has below `directory`, which exists; yield its host and port.

    Raises `FileNotFoundError` where the program is not there, `RuntimeError` where it does not answer.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config, log = directory / "registry.yml", directory / "registry.log"
    config.write_text(_CONFIG.format(directory=directory / "registry", port=port))
    with (
        open(log, "wb") as output,
        subprocess.Popen([REGISTRY, "serve", config], stdout=output, stderr=output) as server,
    ):
        try:
            _await_answer(port, server, log)
            yield f"127.0.0.1:{port}"
        finally:
            server.terminate()


def _await_answer(port: int, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"the registry does not answer: {log.read_text()}")
