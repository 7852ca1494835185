"""Reads the configuration: the environment goes before secrets, and secrets before the file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_settings import InitSettingsSource

from orchestrator.settings.exposure import exposed
from orchestrator.settings.folder import placed
from orchestrator.settings.model import Settings
from orchestrator.settings.places import Origins, written
from orchestrator.settings.problems import Problem, configuration_error, problems_in
from orchestrator.settings.section import secrets_at
from orchestrator.settings.sources import SECRETS_DIR, EnvironmentSource, SecretsSource


def load_settings(path: Path, environment: Mapping[str, str] | None = None) -> Settings:
    """Read and check the configuration.

    ``[connections.shop] url`` is overridden by the file ``connections__shop__url`` of the directory of secrets, and
    both by the variable ``ORCHESTRATOR_CONNECTIONS__SHOP__URL``. The directory of secrets is ``secrets`` beside the
    configuration file, or what ``ORCHESTRATOR_SECRETS_DIR`` names. Relative paths count from the directory of the
    configuration file, whatever gave them.

    Args:
        path: The configuration file, in TOML.
        environment: The environment variables; those of this process if None.

    Raises:
        ConfigurationError: Something is written wrongly; each problem is a line of the message.
    """
    variables, folder = os.environ if environment is None else environment, path.absolute().parent
    document, problems = _read(path)
    given, secrets = EnvironmentSource(folder, variables), SecretsSource(folder, variables.get(SECRETS_DIR))
    problems += given.problems + secrets.problems
    origins = Origins(str(path), document or {}, {**secrets.names, **given.names})
    if document is not None:
        try:
            # Default paths are filled in beside the file's, below all that was given.
            file = InitSettingsSource(Settings, placed(document, Settings, folder))
            settings = Settings(_build_sources=((given, secrets, file), {}))
        except ValidationError as exc:
            problems += problems_in(exc, Settings, lambda place: f"{origins.of(place)}: {written(place)}")
        else:
            problems += exposed(origins, secrets_at(settings))
    if problems:
        raise configuration_error(problems)
    settings._origins = origins  # noqa: SLF001 (known only here, and no field of the file)
    settings._folder = folder  # noqa: SLF001
    settings._secrets = tuple(secrets.env_vars.values())  # noqa: SLF001
    return settings


def _read(path: Path) -> tuple[dict[str, Any] | None, list[Problem]]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig")), []
    except OSError as exc:
        what, remedy = f"cannot be read ({exc.strerror})", "write it after config/production.example.toml"
    except UnicodeDecodeError:
        what, remedy = "is not UTF-8 text", "save it as UTF-8"
    except (ValueError, RecursionError) as exc:
        what, remedy = f"is no TOML: {_reason(exc)}", "correct that line; see https://toml.io"
    return None, [Problem(str(path), what, remedy)]


def _reason(exc: ValueError | RecursionError) -> str:
    return str(exc) if isinstance(exc, tomllib.TOMLDecodeError) else "a value is too long or nested too deeply"
