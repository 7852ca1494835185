"""What every section of the configuration is made of."""

from __future__ import annotations

import json

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """One section of the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


def from_json(value: object) -> object:
    """Decode a list or section that an environment variable or a secret file gives as text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise ValueError('is no JSON; write it as JSON, such as ["s3"] or {"month": "2026-01"}') from None


def http_url(url: str) -> str:
    """Refuse what is no web address."""
    if not url.startswith(("http://", "https://")):
        raise ValueError("is no web address; write it with its scheme, such as http://127.0.0.1:4200/api")
    return url
