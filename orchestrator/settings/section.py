"""What every section of the configuration is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, SecretStr

_URL_PASSWORD = re.compile(r"://[^/\s:@]*:([^/\s]+)@")


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


def secrets_in(value: object) -> Iterator[str]:
    """Return the secret values in a configuration: secret fields, and the passwords of URLs."""
    match value:
        case SecretStr():
            yield value.get_secret_value()
            yield from secrets_in(value.get_secret_value())
        case str():
            yield from _URL_PASSWORD.findall(value)
        case BaseModel():
            for name in type(value).model_fields:
                yield from secrets_in(getattr(value, name))
        case Mapping():
            for each in value.values():
                yield from secrets_in(each)
        case list() | tuple() | set() | frozenset():
            for each in value:
                yield from secrets_in(each)
