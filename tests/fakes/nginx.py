"""A real nginx as people put it before a relay: buffering as by default, and gzip for everything.

The two together hold a stream back to its end; either alone does not, where the client keeps up
(nginx 1.22).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

START_TIMEOUT_S = 10.0
STOP_TIMEOUT_S = 5.0

_CONFIG = """\
daemon off;
pid {directory}/nginx.pid;
{user}
error_log stderr error;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  gzip on;
  gzip_types *;
  gzip_proxied any;
  gzip_min_length 1;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass http://127.0.0.1:{upstream_port};
      proxy_http_version 1.1;
    }}
  }}
}}
"""


def nginx_path() -> str:
    """Of the program; empty where there is none."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin") or ""


@contextmanager
def nginx(directory: Path, upstream_port: int) -> Iterator[int]:
    """nginx before a port of this machine; the port that it listens on.

    Raises:
        RuntimeError: it did not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = directory / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(
        _CONFIG.format(directory=directory, user=user, port=port, upstream_port=upstream_port)
    )
    command = [nginx_path(), "-e", "stderr", "-p", str(directory), "-c", str(config)]
    process = subprocess.Popen(command)
    try:
        wait_for(port, process)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    until_s = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > until_s:
                raise RuntimeError(f"nginx did not start: {process.poll()}") from None
            time.sleep(0.01)  # another process: there is nothing to await
        else:
            return
