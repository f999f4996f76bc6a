"""Says in the summary which clients are missing, and why their tests were not collected."""

from __future__ import annotations

import pytest

from tests.realclients.conftest import CLIENTS, IS_CLIENTS_ENVIRONMENT, is_installed


@pytest.mark.parametrize("client", CLIENTS)
def test_client_is_installed(client: str) -> None:
    if not IS_CLIENTS_ENVIRONMENT:
        pytest.skip("clients are tested in environments of their own: make test-clients")
    if not is_installed(CLIENTS[client]):
        pytest.skip(f"{client} is not installed here")
