"""Whose word is taken for a provider's certificate: roots as PEM, from where OpenSSL looks too.

For engines that bring roots of their own and no way to the machine's. An operator who adds a root
to the system, or names one in `SSL_CERT_FILE`, means every program on it.
"""

from __future__ import annotations

import os
import re
import ssl
from pathlib import Path
from typing import NamedTuple

from relay.errors import ConnectError

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_HASHED_NAME = re.compile(r"[0-9a-f]{8}\.\d+")
"""How OpenSSL finds a certificate in a directory; what has other names there is not trusted."""


class Roots(NamedTuple):
    """Certificates that are trusted."""

    pem: bytes
    """One or more, nothing between them."""
    variable: str
    """The environment's variable that names them; empty for the system's own."""


def roots_of(ca_file: str) -> bytes:
    """The certificates in a file that an origin names.

    Raises:
        OSError: it cannot be read.
        ConnectError: it holds none.
    """
    pem = _certificates(Path(ca_file).read_bytes())
    if not pem:
        raise ConnectError("the origin's ca_file holds no certificate")
    return pem


def system_roots() -> Roots | None:
    """What this machine trusts: the file in `SSL_CERT_FILE`, else the directories in
    `SSL_CERT_DIR`, else the bundle or the directory of the system. None if it has none.

    Raises:
        ConnectError: a variable names what holds no certificate; others instead would be trusted
            against the word of whoever set it.
    """
    paths = ssl.get_default_verify_paths()
    file, directories = paths.openssl_cafile_env, paths.openssl_capath_env
    if named := os.environ.get(file):
        return Roots(_named(file, _in_file(named)), file)
    if named := os.environ.get(directories):
        found = [_in_directory(path) for path in named.split(os.pathsep)]
        return Roots(_named(directories, b"\n".join(filter(None, found))), directories)
    pem = _in_file(paths.openssl_cafile) or _in_directory(paths.openssl_capath)
    return Roots(pem, "") if pem else None


def _named(variable: str, pem: bytes) -> bytes:
    if not pem:
        raise ConnectError(f"{variable} is set and names no certificate")
    return pem


def _in_file(path: str) -> bytes:
    try:
        return _certificates(Path(path).read_bytes())
    except OSError:
        return b""


def _in_directory(path: str) -> bytes:
    try:
        names = sorted(name for name in os.listdir(path) if _HASHED_NAME.fullmatch(name))
    except OSError:
        return b""
    return b"\n".join(filter(None, (_in_file(os.path.join(path, name)) for name in names)))


def _certificates(data: bytes) -> bytes:
    return b"\n".join(_CERTIFICATE.findall(data))
