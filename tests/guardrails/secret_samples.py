"""One made-up secret of each kind, put together here so that no scanner of repositories minds."""

from __future__ import annotations

from typing import Final

_LETTERS: Final = "aZ3bY7cX9dW2eV5fU8gT1hS4iR6jQ0kPlOmNnM"


def run(count: int) -> str:
    """So many letters and digits that look made by chance."""
    return (_LETTERS * (count // len(_LETTERS) + 1))[:count]


SECRETS: Final[dict[str, tuple[str, str]]] = {
    "aws_access_key": ("", "AKIA" + "Q7RS5T2UV4WX9YZ3"),
    "aws_secret_key": ("aws secret key = ", run(40)),
    "gcp_api_key": ("", "AIza" + run(35)),
    "gcp_oauth": ("", "ya29." + run(60)),
    "github": ("", "ghp_" + run(36)),
    "gitlab": ("", "glpat-" + run(20)),
    "slack": ("", "xoxb-" + "1234567890-" + run(24)),
    "stripe": ("", "sk_live_" + run(24)),
    "anthropic": ("", "sk-ant-api03-" + run(80)),
    "openai": ("", "sk-proj-" + run(120)),
    "xai": ("", "xai-" + run(60)),
    "groq": ("", "gsk_" + run(52)),
    "huggingface": ("", "hf_" + run(34)),
    "replicate": ("", "r8_" + run(37)),
    "perplexity": ("", "pplx-" + run(48)),
    "sendgrid": ("", "SG." + run(22) + "." + run(43)),
    "twilio": ("", "AC" + "0123456789abcdef" * 2),
    "npm": ("", "npm_" + run(36)),
    "pypi": ("", "pypi-AgE" + run(80)),
    "discord": ("", "MTE" + run(21) + "." + run(6) + "." + run(27)),
    "telegram": ("", "123456789:AA" + run(33)),
    "azure_storage": ("AccountKey=", run(86) + "=="),
    "digitalocean": ("", "dop_v1_" + "0123456789abcdef" * 4),
    "shopify": ("", "shpat_" + "0123456789abcdef" * 2),
    "relay": ("", "rtk_" + run(12) + "." + run(40)),
    "jwt": ("", "eyJ" + run(30) + ".eyJ" + run(60) + "." + run(43)),
    "bearer": ("Authorization: Bearer ", run(40)),
    "private_key": (
        "",
        "-----BEGIN RSA PRIVATE KEY-----\n"
        + "\n".join([run(64)] * 10)
        + "\n-----END RSA PRIVATE KEY-----",
    ),
    "url_password": ("postgres://user:", "pa55-w0rd"),
    "assigned": ("password = ", "hunter2-Xy9!"),
}
"""Kind -> (what must stand before it, the secret)."""
AFTER: Final = {"url_password": "@host/db"}
