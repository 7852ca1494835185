"""What the configuration says about webhooks, and about the gateway that takes them in."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PlainValidator, SecretStr

from orchestrator.settings.section import Section, from_json, http_url

Scheme = Literal["standard-webhooks", "stripe", "github", "slack", "hubspot-v3", "hmac", "none"]
"""How a call proves where it comes from."""

WEBHOOK = "webhook:"
"""The source of a delivery that came through a webhook begins so; the webhook's name follows."""
SHORTEST_PATH_SECRET = 32
LARGEST_BODY = 25_000_000
_URL_SAFE = re.compile(r"[A-Za-z0-9_-]*")
_POINTER = re.compile(r"(/([^/~]|~[01])*)*")
"""RFC 6901 3: an empty text, or parts that each begin with a slash; ``~`` stands only in ``~0`` and ``~1``."""
_HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
"""RFC 9110 5.6.2: a token."""


class Constant(Section):
    """An input field that is the same for every delivery."""

    const: Any


def _secrets(value: object) -> object:
    """Read several secrets from one variable or secret file: as JSON, or one a line."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        return from_json(value)
    return [secret for line in value.splitlines() if (secret := line.strip())]


def _path_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    if len(text) < SHORTEST_PATH_SECRET or not _URL_SAFE.fullmatch(text):
        raise ValueError(
            f"can be guessed or does not fit into an address; write {SHORTEST_PATH_SECRET} random letters and digits "
            "or more, such as openssl rand -hex 32 prints"
        )
    return secret


def _header(name: str) -> str:
    if not _HEADER.fullmatch(name):
        raise ValueError("is no name of a header; write it as the sender does, such as X-Signature")
    return name


def _delivery_id(place: str) -> str:
    return _pointer(place) if place.startswith("/") else _header(place)


def _pointer(text: str) -> str:
    if not _POINTER.fullmatch(text):
        raise ValueError(
            "is no JSON Pointer (RFC 6901); write the way to a value with a slash before each part, such as "
            "/customer/email or /items/0/name, and ~0 and ~1 for ~ and / within a name"
        )
    return text


def _source(value: object) -> str | Constant:
    match value:
        case str():
            return _pointer(value)
        case Constant():
            return value
        case {"const": const, **others} if not others:
            return Constant(const=const)
        case _:
            raise ValueError("names no value of the payload; write a JSON Pointer in quotes, or {const = ...}")


InputSource = Annotated[str | Constant, PlainValidator(_source)]
"""Where an input field comes from: a JSON Pointer into the payload, or a constant."""


class HmacSettings(Section):
    """Where a sender without a style of its own puts its HMAC-SHA256 of the body."""

    header: Annotated[str, AfterValidator(_header)]
    encoding: Literal["hex", "base64"] = "hex"
    prefix: str = ""
    """What stands before the signature in the header, for example ``sha256=``."""


class WebhookSettings(Section):
    """Calls from outside that start a process."""

    process: str
    verify: Scheme
    secrets: Annotated[tuple[SecretStr, ...], BeforeValidator(_secrets)] = ()
    """Each of them counts, so that a new one can be added before the old one is taken away."""
    hmac: HmacSettings | None = None
    path_secret: Annotated[SecretStr, AfterValidator(_path_secret)] | None = None
    """The last part of the address, for senders that sign nothing."""
    external_url: Annotated[str, AfterValidator(http_url)] | None = None
    """The whole address as the sender knows it."""
    max_bytes: Annotated[int, Field(ge=1, le=LARGEST_BODY)] = 1_000_000
    tolerance_seconds: Annotated[int, Field(ge=1)] = 300
    """A signed time-stamp may be so far from now, in both directions."""
    delivery_id: Annotated[str, AfterValidator(_delivery_id)] | None = None
    """Where the sender's own id of a delivery stands: a header, or a JSON Pointer into the payload."""
    answers_per_day: Annotated[int, Field(ge=1)] = 20
    """At most so many automatic mails a day to one address, by runs of webhooks; what is beyond waits for a person."""
    input: Annotated[dict[str, InputSource], BeforeValidator(from_json)] = Field(default_factory=dict)
    """The process's input, field by field."""


class GatewaySettings(Section):
    """Where webhooks are taken in, and how many at once."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    status_host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    status_port: Annotated[int, Field(ge=0, le=65535)] = 8081
    """Where monitors ask how it is, apart from the senders."""
    in_flight: Annotated[int, Field(ge=2)] = 256
    """At most so many calls at once, and half as many of one webhook; the others are asked to come again."""
    read_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 10
    """Time for the headers of a call to arrive, and for its body."""
