"""Reads the configuration: the environment goes before secrets, and secrets before the file."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError, model_validator
from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource

from orchestrator.settings.exposure import exposed
from orchestrator.settings.folder import placed
from orchestrator.settings.model import Settings
from orchestrator.settings.places import Origins, written
from orchestrator.settings.problems import Problem, configuration_error, problems_in
from orchestrator.settings.section import secrets_at
from orchestrator.settings.sources import SECRETS_DIR, Named, NamedSource, from_directory, from_environment

_SECTIONS = list(Settings.model_fields)


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
    given, secrets = from_environment(variables, _SECTIONS), _secrets(folder, variables)
    problems += given.problems + secrets.problems
    origins = Origins(str(path), document or {}, {**secrets.names, **given.names})
    if document is not None:
        try:
            settings = _merged(document, secrets, given, folder)
        except ValidationError as exc:
            problems += problems_in(exc, Settings, lambda place: f"{origins.of(place)}: {written(place)}")
        else:
            problems += exposed(origins, secrets_at(settings))
    if problems:
        raise configuration_error(problems)
    settings._origins = origins  # noqa: SLF001 (known only here, and no field of the file)
    settings._folder = folder  # noqa: SLF001
    settings._secrets = tuple(secrets.values.values())  # noqa: SLF001
    return settings


def _read(path: Path) -> tuple[dict[str, Any] | None, list[Problem]]:
    try:
        return tomllib.loads(path.read_bytes().decode("utf-8-sig")), []
    except OSError as exc:
        what, remedy = f"cannot be read ({exc.strerror})", "write it after config/production.example.toml"
    except UnicodeDecodeError:
        what, remedy = "is not UTF-8 text", "save it as UTF-8"
    except (ValueError, RecursionError) as exc:
        what, remedy = f"is no TOML: {_reason(exc)}", "mend that line; see https://toml.io"
    return None, [Problem(str(path), what, remedy)]


def _reason(exc: ValueError | RecursionError) -> str:
    return str(exc) if isinstance(exc, tomllib.TOMLDecodeError) else "a value is too long or nested too deeply"


def _secrets(folder: Path, variables: Mapping[str, str]) -> Named:
    chosen = variables.get(SECRETS_DIR)
    directory = folder / (chosen or "secrets")
    if directory.is_dir():
        return from_directory(directory, _SECTIONS)
    problem = Problem(f"environment variable {SECRETS_DIR}", "names no directory", "create it, or unset the variable")
    return Named(problems=[problem] if chosen else [])


def _merged(document: dict[str, Any], secrets: Named, given: Named, folder: Path) -> Settings:
    class Sourced(Settings):
        @model_validator(mode="before")
        @classmethod
        def _count_paths_from_the_file(cls, merged: dict[str, Any]) -> Any:
            return placed(merged, Settings, folder)

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return (
                NamedSource(settings_cls, given.values),
                NamedSource(settings_cls, secrets.values),
                InitSettingsSource(settings_cls, init_kwargs=document),
            )

    sourced = Sourced()
    # What was read is a plain Settings again: equal to others, and free of its sources.
    return Settings.model_construct(sourced.model_fields_set, **dict(sourced))
