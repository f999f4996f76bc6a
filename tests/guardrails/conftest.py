"""An authority of our own, for webhooks over TLS."""

from __future__ import annotations

import pytest

from tests.fakes.tls import CertAuthority


@pytest.fixture(scope="session")
def authority() -> CertAuthority:
    """Who signs for the fake webhook."""
    return CertAuthority()


@pytest.fixture(scope="session")
def ca_file(authority: CertAuthority, tmp_path_factory: pytest.TempPathFactory) -> str:
    """PEM file of the authority."""
    return authority.ca_file(tmp_path_factory.mktemp("ca"))
