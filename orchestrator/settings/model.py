"""What the configuration may hold, section by section."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, cast
from urllib.parse import SplitResult, urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, PrivateAttr, SecretStr, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from orchestrator.capabilities import EmailAddress
from orchestrator.schedule import Schedule
from orchestrator.settings.exposure import exposed
from orchestrator.settings.folder import placed
from orchestrator.settings.places import DELIMITER, Origins, written
from orchestrator.settings.problems import Problem
from orchestrator.settings.section import Section, from_json, http_url, secrets_at, secrets_in
from orchestrator.settings.webhooks import GatewaySettings, WebhookSettings

HOST = "host"
"""The connection that the host is itself: it answers ``people``, ``inbox`` and ``cases``."""

_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_THIS_MACHINE = frozenset({"localhost", "127.0.0.1", "::1"})
_HTTP_PORT = 80
_STORES = ("sqlite://", "postgresql")


def _name(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise ValueError(
            "is no name; write lower-case letters, digits and single underscores, beginning with a letter, "
            "so that environment variables can name it"
        )
    return text


def _connection_name(text: str) -> str:
    if text == HOST:
        raise ValueError(f"is the host's own; give the connection another name than {HOST}")
    return _name(text)


def _store_url(url: str) -> str:
    if not url.startswith(_STORES):
        raise ValueError("names no store that is supported; write sqlite:///data/orchestrator.db or postgresql://...")
    if url.rstrip("/") == "sqlite:" or ":memory:" in url:
        raise ValueError("would keep the record in memory alone; write sqlite:///data/orchestrator.db")
    return url


def _module_name(text: str) -> str:
    if not all(part.isidentifier() for part in text.split(".")):
        raise ValueError('names no module; write it as in an import: "flows", or "myshop.flows"')
    return text


ConnectionName = Annotated[str, AfterValidator(_connection_name)]
MailboxName = Annotated[str, AfterValidator(_name)]
WebhookName = Annotated[str, AfterValidator(_name)]
ModuleName = Annotated[str, AfterValidator(_module_name)]


class StoreSettings(Section):
    """Where the record is kept."""

    # A database's URL may hold its password.
    url: Annotated[str, AfterValidator(_store_url), Field(repr=False)] = "sqlite:///data/orchestrator.db"
    key_file: Path = Path("data/keys/kek")
    """The key that wraps each person's key; it belongs neither into the database nor into its backups."""


class PrefectSettings(Section):
    """The Prefect server that shows the runs and starts scheduled ones."""

    api_url: Annotated[str, AfterValidator(http_url)] = "http://127.0.0.1:4200/api"
    auth_string: SecretStr | None = None
    """What that server asks for (its ``PREFECT_SERVER_API_AUTH_STRING``); ``orchestrator up`` makes one for its own."""
    work_pool: Annotated[str, Field(min_length=1)] = "orchestrator"
    answers_per_day: Annotated[int, Field(ge=1)] = 20
    """At most so many mails a day to one address, by runs that were started in Prefect; then a person must decide."""
    serve: bool | None = None
    """Whether ``orchestrator up`` runs the server itself; without a word, it does if ``api_url`` is on this machine."""
    host: Annotated[str, Field(min_length=1)] | None = None
    """Where that server listens; without a word, at the host of ``api_url``."""

    @property
    def is_served(self) -> bool:
        """Whether ``orchestrator up`` runs the server itself."""
        return self.serve if self.serve is not None else self._url.hostname in _THIS_MACHINE

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port where that server listens."""
        return self.host or str(self._url.hostname), self._url.port or _HTTP_PORT

    @property
    def ui_url(self) -> str:
        """Where people find it."""
        return self.api_url.removesuffix("/api")

    @property
    def _url(self) -> SplitResult:
        return urlsplit(self.api_url)

    @model_validator(mode="after")
    def _can_be_served(self) -> PrefectSettings:
        if self.is_served and (self._url.scheme, self._url.path.rstrip("/")) != ("http", "/api"):
            raise ValueError(
                "cannot be served by `orchestrator up`; write api_url as http://HOST:PORT/api, or serve = false if "
                "the server is somebody else's"
            )
        return self


class WorkerSettings(Section):
    """How the processes share the work."""

    in_flight: Annotated[int, Field(ge=1, le=64)] = 8
    """At most so many runs are executed at once by one process."""
    processes: Annotated[int, Field(ge=1, le=16)] = 1
    """So many processes of ``orchestrator up`` execute runs, since one executes Python on one core; all but the first
    do nothing else."""
    lease_seconds: Annotated[float, Field(ge=1, le=3600)] = 60
    """A run that its worker does not touch for so long is taken over: the worker died. Alike in all programs."""


class RetentionSettings(Section):
    """How long what is not the record is kept; 0 keeps it."""

    inbox_days: Annotated[int, Field(ge=0)] = 0
    """Bodies of deliveries, from when they were taken in and their run has ended."""
    prefect_days: Annotated[int, Field(ge=0)] = 0
    """Flow runs in Prefect, from when they ended."""


class ScheduleSettings(Schedule):
    """Changes the schedule that a process declares, or gives it one."""

    request: Annotated[dict[str, Any], BeforeValidator(from_json)] = Field(default_factory=dict)
    enabled: bool = True


class ProcessSettings(Section):
    """What is particular to one process."""

    bindings: dict[str, str] = Field(default_factory=dict)
    """Capability to connection, for this process alone."""
    schedule: ScheduleSettings | None = None
    enabled: bool = True


class MailboxSettings(Section):
    """A mailbox whose mail starts a process."""

    connection: str
    process: str
    addresses: Annotated[tuple[EmailAddress, ...], BeforeValidator(from_json)] = ()
    """Our own addresses: mail that comes from one of them is never answered."""
    authserv_id: Annotated[str, Field(pattern=r"^[^\s;()\"]+$")] | None = None
    """The name that the mail server writes first in ``Authentication-Results`` (RFC 8601): what it says there of a
    sender is believed. Without it, nobody's address counts as proven."""
    poll_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 30
    from_beginning: bool = False
    """Take in what already lies in the mailbox when it is first read."""
    answers_per_day: Annotated[int, Field(ge=1)] = 5
    """At most so many automatic answers a day to one address; what is beyond waits for a person."""
    answer_pause_seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 300
    """Another mail that would be answered so soon after the last automatic answer to the same address waits for one."""


class AnswerSettings(Section):
    """How much goes out by itself."""

    per_hour: Annotated[int, Field(ge=1)] = 200
    """Maximum automatic answers to mails an hour; what is beyond waits for a person. Senders whose address is proven
    (``authserv_id``) and those whose address is not are counted apart."""
    strangers_per_hour: Annotated[int, Field(ge=1)] = 5
    """Maximum acknowledgements an hour, by each process, to senders whose address is not proven: each may be somebody
    else's. What is beyond is left out."""


class LimitSettings(Section):
    """A vendor's quota: how often each program may call a connection."""

    calls_per_minute: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    burst: Annotated[int, Field(ge=1)] = 1
    """So many calls may follow each other at once, after a pause."""


class AlarmSettings(Section):
    """Which process notifies people of what stopped and of mail that waits for them, and how often at most."""

    process: str
    every_seconds: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 60
    """Least time between two notices of what stopped; the first one goes out at once."""
    mail_every_seconds: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 900
    """Least time between two notices of mail that is kept for a person; the first one goes out at once."""


class PluginSettings(Section):
    """Which plug-ins there are beside the installed ones, and which are not loaded."""

    modules: Annotated[tuple[ModuleName, ...], BeforeValidator(from_json)] = ()
    """Modules that are plug-ins, without being installed: a project's own processes and connectors."""
    folder: Path = Path()
    """Where these modules are looked for first."""
    disabled: Annotated[tuple[str, ...], BeforeValidator(from_json)] = ()


class ServiceSettings(Section):
    """What ``orchestrator up`` runs, and how."""

    data: Path = Path("data")
    """Where its lock, its metrics and the database of its Prefect server lie; one ``up`` at a time has it."""
    stop_seconds: Annotated[float, Field(ge=5, allow_inf_nan=False)] = 45
    """At a stop, what is under way gets so long to come to an end; then it is handed over to the next start."""


class Settings(BaseSettings):
    """The whole configuration.

    Made by ``load_settings``. Made by hand, it reads neither the environment nor a file.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, case_sensitive=True, env_nested_delimiter=DELIMITER
    )

    store: StoreSettings = StoreSettings()
    prefect: PrefectSettings = PrefectSettings()
    # A connection's section may hold its credential.
    connections: dict[ConnectionName, dict[str, Any]] = Field(default_factory=dict, repr=False)
    bindings: dict[str, str] = Field(default_factory=dict)
    processes: dict[str, ProcessSettings] = Field(default_factory=dict)
    mailboxes: dict[MailboxName, MailboxSettings] = Field(default_factory=dict)
    answers: AnswerSettings = AnswerSettings()
    webhooks: dict[WebhookName, WebhookSettings] = Field(default_factory=dict)
    gateway: GatewaySettings = GatewaySettings()
    worker: WorkerSettings = WorkerSettings()
    retention: RetentionSettings = RetentionSettings()
    alarms: AlarmSettings | None = None
    service: ServiceSettings = ServiceSettings()
    plugins: PluginSettings = PluginSettings()

    _origins: Origins = PrivateAttr(default_factory=Origins)
    _folder: Path = PrivateAttr(default=Path())
    _secrets: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def settings_customise_sources(cls, *_: Any, **sources: Any) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but what is handed in."""
        return (sources["init_settings"],)

    def schedule_of(self, process: str, declared: Schedule | None) -> Schedule | None:
        """Return when a process runs by itself, None if it does not.

        Args:
            process: The process's name.
            declared: What the process itself declares.
        """
        section = self.processes.get(process)
        configured = section.schedule if section else None
        if configured is None:
            return declared
        return (declared or Schedule()).changed_by(configured) if configured.enabled else None

    def where(self, *path: str | int) -> str:
        """Say where a setting stands or should stand: ``config/sandbox.toml: [connections.shop] url``."""
        return f"{self._origins.of(path)}: {written(path)}"

    def placed(self, section: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
        """Return a section with its relative paths counted from the folder of the configuration file.

        Args:
            section: As it was written.
            model: Says which of its fields are paths.
        """
        return cast("dict[str, Any]", placed(section, model, self._folder))

    def exposed(self, section: object, *path: str | int) -> list[Problem]:
        """Find secrets that stand in the configuration file although others may read it.

        Args:
            section: What was made of a section.
            path: Its place.
        """
        return exposed(self._origins, secrets_at(section, path))

    def secrets(self) -> Iterator[str]:
        """Return every value that must not be seen: what secret files hold, secret settings, and URLs' passwords."""
        yield from self._secrets
        yield from secrets_in(self)
