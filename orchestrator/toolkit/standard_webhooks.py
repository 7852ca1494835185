"""What gateways and connectors that speak Standard Webhooks have in common."""

from __future__ import annotations

from base64 import b64decode

_PREFIX = "whsec_"


def signing_key(secret: str) -> bytes:
    """Return the key that a secret of Standard Webhooks stands for (standardwebhooks.com, spec 1.0).

    Args:
        secret: Base64, with or without its padding, and with or without ``whsec_`` before it.

    Raises:
        ValueError: It is no base64.
    """
    text = secret.removeprefix(_PREFIX)
    padding = "" if text.endswith("=") else "=" * (-len(text) % 4)
    return b64decode(text + padding, validate=True)
