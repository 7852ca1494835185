"""What every section of the configuration is made of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict, SecretStr

from orchestrator.settings.places import Path

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
    return (secret for _, secret in secrets_at(value))


def secrets_at(value: object, path: Path = ()) -> Iterator[tuple[Path, str]]:
    """Return the secret values in a configuration, each with its place.

    Args:
        value: A section, or anything below one.
        path: Its own place.
    """
    match value:
        case SecretStr():
            yield path, value.get_secret_value()
            yield from secrets_at(value.get_secret_value(), path)
        case str():
            yield from ((path, password) for password in _URL_PASSWORD.findall(value))
        case BaseModel():
            for name, field in type(value).model_fields.items():
                yield from secrets_at(getattr(value, name), (*path, field.alias or name))
        case Mapping():
            for name, each in value.items():
                yield from secrets_at(each, (*path, name))
        case list() | tuple() | set() | frozenset():
            for place, each in enumerate(value):
                yield from secrets_at(each, (*path, place))
