"""The auth string of Prefect's server: who does not have it, gets nothing from its API.

Prefect has no users, so it is one word for all: the server, our programs, and the operators at its UI.
"""

from __future__ import annotations

import os
import secrets
from base64 import b64encode
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path

import httpx

from orchestrator.errors import ConfigurationError
from orchestrator.logs import hide
from orchestrator.private_files import FILE_MODE, OTHERS, private_folder
from orchestrator.settings import PrefectSettings, Settings

FILE = "auth-string"
"""Below the home of our server; made once, readable by its owner alone."""
VARIABLE = "PREFECT_API_AUTH_STRING"
"""Prefect's own name for what its client gives."""
SERVER_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
"""Prefect's own name for what its server asks for."""
LOOK_SECONDS = 2.0


def home_of(settings: Settings) -> Path:
    """Return where the Prefect server of ``orchestrator up`` keeps its database and its auth string."""
    return settings.service.data.absolute() / "prefect"


def auth_string(settings: Settings) -> str | None:
    """Return what Prefect's server asks for: the configured one, or the one that was made for our own server.

    Raises:
        ConfigurationError: Others may read the file that was made.
    """
    if given := _given(settings.prefect):
        return given
    return _read(home_of(settings) / FILE) if settings.prefect.is_served else None


def made_in(home: Path) -> str:
    """Return the auth string below the home of our server, made if there is none yet.

    Raises:
        ConfigurationError: It cannot be kept there, or others may read it.
    """
    return _read(home / FILE) or _made(home / FILE)


def how_to_sign_in(settings: Settings) -> str:
    """Say what the page *Login* of our own server's UI asks for, without showing it."""
    place = "[prefect] auth_string" if _given(settings.prefect) else home_of(settings) / FILE
    return f"log in with the whole content of {place}"


def headers(auth: str | None) -> dict[str, str]:
    """Return what a call to Prefect's API carries, as Prefect's own client writes it."""
    return {"Authorization": f"Basic {b64encode(auth.encode()).decode()}"} if auth else {}


def refused(settings: Settings) -> list[str]:
    """Say if Prefect's server refuses our auth string; nothing if it takes it, or is away."""
    if _status(settings, auth_string(settings)) != HTTPStatus.UNAUTHORIZED:
        return []
    return [
        (
            f"{settings.where('prefect', 'auth_string')}: Prefect's server refuses it; write what the server was "
            "started with (PREFECT_SERVER_API_AUTH_STRING) as the secret prefect__auth_string"
        )
    ]


def left_open(settings: Settings) -> list[str]:
    """Say if Prefect's server answers somebody without a log-in; nothing if not, or if it is away."""
    if _status(settings, None) != HTTPStatus.OK:
        return []
    remedy = (
        "stop it, and let `orchestrator up` start it"
        if settings.prefect.is_served
        else "start it with PREFECT_SERVER_API_AUTH_STRING, and write the same here as the secret prefect__auth_string"
    )
    return [
        (
            f"{settings.where('prefect', 'api_url')}: Prefect's server answers without a log-in: whoever reaches it, "
            f"and every web page that an operator visits, can read, start and delete runs there; {remedy}"
        )
    ]


def _status(settings: Settings, auth: str | None) -> int | None:
    try:
        version = f"{settings.prefect.api_url}/admin/version"
        return httpx.get(version, headers=headers(auth), timeout=LOOK_SECONDS).status_code
    except httpx.HTTPError:
        return None


def _given(prefect: PrefectSettings) -> str | None:
    configured = prefect.auth_string.get_secret_value() if prefect.auth_string else os.environ.get(VARIABLE)
    return _hidden(configured) if configured else None


def _read(file: Path) -> str | None:
    try:
        if file.stat().st_mode & OTHERS:
            raise ConfigurationError(f"{file}: others than its owner may read it; delete it, and start again")
        return _hidden(file.read_text())
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise ConfigurationError(
            f"{file} cannot be read ({exc.strerror}); make the orchestrator's user its owner"
        ) from exc


def _made(file: Path) -> str:
    """Make it whole or not at all; of several that start at once, the first one counts."""
    draft = file.with_name(f".{FILE}.{secrets.token_hex(8)}")
    try:
        private_folder(file.parent)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, FILE_MODE), "w") as written:
            written.write(f"operator:{secrets.token_urlsafe(32)}")
        with suppress(FileExistsError):
            os.link(draft, file)
        draft.unlink()
    except OSError as exc:
        raise ConfigurationError(
            f"{file} cannot be written ({exc.strerror}); make the orchestrator's user the owner of its folder"
        ) from exc
    return str(_read(file))


def _hidden(auth: str) -> str:
    """Strike it out of everything that this process logs."""
    hide([auth])
    return auth
