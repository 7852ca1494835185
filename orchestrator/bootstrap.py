"""The composition root: the only place that joins configuration, plug-ins, record and kernel."""

from __future__ import annotations

import getpass
import os
import secrets
import socket
from collections.abc import Mapping
from datetime import timedelta
from functools import cache, cached_property, partial
from pathlib import Path
from threading import Event, Lock
from typing import cast

from pydantic import BaseModel
from sqlalchemy import Connection

from orchestrator.bindings import HOST, Connections, connect
from orchestrator.bindings.guard import Guard, Guarded
from orchestrator.bindings.health import ConnectionHealth
from orchestrator.bindings.proofs import Proofs
from orchestrator.builtin.cases import HostCases
from orchestrator.builtin.inbox import HostInbox
from orchestrator.builtin.people import HostPeople
from orchestrator.capabilities import Mailbox
from orchestrator.config_file import CONFIG_PLACES, CONFIG_VARIABLE, find_config
from orchestrator.errors import ConfigurationError, PluginError
from orchestrator.intake.mailboxes import MailIntake, Source
from orchestrator.kernel.admission import Request
from orchestrator.kernel.definition import ProcessDefinition
from orchestrator.kernel.kernel import Kernel
from orchestrator.kernel.runs import Opening, Runs, new_run_id
from orchestrator.kernel.steps import Bound
from orchestrator.logs import hide
from orchestrator.metrics.measures import Measures
from orchestrator.outbound_limits.answers import AnswerLimits
from orchestrator.outbound_limits.prefect import PrefectLimit
from orchestrator.plugins import MailWatch, Watchable
from orchestrator.plugins.host import PluginHost
from orchestrator.record.clock import Clock, utc_now
from orchestrator.record.record import Record, open_record
from orchestrator.record.trail import Actor
from orchestrator.record.wakeup import Wakeup
from orchestrator.settings import WEBHOOK, MailboxSettings, Settings, WebhookSettings, load_settings


class Application:
    """Everything that runs are made of, joined as the configuration says.

    Args:
        settings: The configuration.
        plugins: The plug-ins; without them, those that are installed.
        clock: Tells the time.
    """

    def __init__(self, settings: Settings, *, plugins: PluginHost | None = None, clock: Clock = utc_now) -> None:
        self.settings = settings
        self.plugins = plugins or PluginHost(**dict(settings.plugins))
        self.ended = Event()
        """Set when there may be something new to show: a run ended or stopped, a connection's state changed."""
        self.stopping = Event()
        """Set when this program must let its runs go."""
        self.makes_record = True
        """Whether the record is created if there is none yet. Set before ``record`` is used."""
        self._clock = clock
        self._guarded: dict[str, Guarded] = {}
        self._guarding = Lock()

    @cached_property
    def record(self) -> Record:
        """Where everything is written down."""
        store = self.settings.store
        return open_record(store.url, store.key_file, self._clock, create=self.makes_record)

    @property
    def work_waits(self) -> Wakeup:
        """Wakes workers in every process on the same database. Whatever makes a run ready does so by itself."""
        return self.record.store.wakeup

    @cached_property
    def runs(self) -> Runs:
        """Opens, leases and finds runs."""
        return Runs(self.record, lease=timedelta(seconds=self.settings.worker.lease_seconds))

    @cached_property
    def connections(self) -> Connections:
        """The systems, by the names they have in the configuration."""
        return connect(self.settings, self.plugins)

    @cached_property
    def processes(self) -> Mapping[str, ProcessDefinition]:
        """The processes by name, without those that are switched off."""
        switched_off = {name for name, process in self.settings.processes.items() if not process.enabled}
        return {
            name: cast("ProcessDefinition", offered.definition)
            for name, offered in self.plugins.processes().items()
            if name not in switched_off
        }

    @cached_property
    def kernel(self) -> Kernel:
        """Executes runs."""
        owner = f"{socket.gethostname()}/{os.getpid()}/{secrets.token_hex(4)}"
        return Kernel(
            self.record,
            self.runs,
            cache(self._bind),
            owner=owner,
            meter=self.measures,
            stopping=self.stopping.is_set,
            renew_every=self.runs.lease / 4,
        )

    @cached_property
    def measures(self) -> Measures:
        """What this process measures."""
        return Measures()

    @cached_property
    def people(self) -> HostPeople:
        """Questions to people."""
        return HostPeople(self.record)

    @cached_property
    def inbox(self) -> HostInbox:
        """Stored mail."""
        own = frozenset(address for box in self.settings.mailboxes.values() for address in box.addresses)
        return HostInbox(self.record, own)

    @cached_property
    def answers(self) -> AnswerLimits:
        """Limits of what goes out by itself."""
        webhooks = {WEBHOOK + name: webhook for name, webhook in self.settings.webhooks.items()}
        limits: dict[str, MailboxSettings | WebhookSettings] = {**self.settings.mailboxes, **webhooks}
        return AnswerLimits(self.record.vault, self._clock, limits, self.settings.answers)

    @cached_property
    def prefect_limit(self) -> PrefectLimit:
        """The limit of what runs send that were started in Prefect."""
        return PrefectLimit(self.record.vault, self._clock, self.settings.prefect)

    @cached_property
    def cases(self) -> HostCases:
        """Customers' cases."""
        return HostCases(self.record, self.runs, lambda: self.processes)

    @cached_property
    def intake(self) -> MailIntake:
        """Takes mail in."""
        return MailIntake(self.record, self.runs)

    @cached_property
    def health(self) -> ConnectionHealth:
        """What state each connection is in."""
        return ConnectionHealth(self.record, self.runs, changed=self.ended.set)

    @cached_property
    def proofs(self) -> Proofs:
        """Which probes have shown that they see what was done."""
        return Proofs(self.record, self.connections)

    def guarded(self, name: str) -> Guarded:
        """Return a connection behind its guard, of which there is one in this program."""
        with self._guarding:
            if name not in self._guarded:
                provides = self.connections.connector_of(name).provides
                guard = Guard(
                    name,
                    self.health.reporter(name),
                    answered=partial(self.health.answered, name),
                    limits=self.connections.limits_of(name),
                )
                self._guarded[name] = Guarded(self.connections.get(name), provides, guard)
            return self._guarded[name]

    def sources(self) -> list[Source]:
        """Return the mailboxes that mail is taken from."""
        return [
            Source(
                name=name,
                mailbox=cast("Mailbox", self.guarded(mailbox.connection)),
                process=self.definition(mailbox.process),
                from_beginning=mailbox.from_beginning,
                authserv_id=mailbox.authserv_id,
            )
            for name, mailbox in self.settings.mailboxes.items()
        ]

    def watch(self, source: Source) -> MailWatch | None:
        """Begin to watch a mailbox, behind the guard of its connection; None if its system tells nothing."""
        guarded = self.guarded(self.settings.mailboxes[source.name].connection)
        if not isinstance(guarded, Watchable):
            return None
        return cast("MailWatch", Guarded(guarded.watch(), (Mailbox,), guarded.guard))

    def definition(self, name: str) -> ProcessDefinition:
        """Return a process.

        Raises:
            ConfigurationError: There is none of that name, or it is switched off.
        """
        try:
            return self.processes[name]
        except KeyError:
            known = ", ".join(sorted(self.processes)) or "none"
            raise ConfigurationError(f"no process {name}; there are: {known}") from None

    def hindrance(self, process: str) -> str:
        """Return why no run of a process can be executed now, or nothing; the connections that it needs are built."""
        try:
            for need in self.definition(process).needs.values():
                self._bind(process, need)
        except (ConfigurationError, PluginError) as exc:
            return str(exc)
        return ""

    def hindrances(self) -> dict[str, str]:
        """Return which processes cannot be executed as configured, and why; nothing is built."""
        capabilities = self.plugins.capabilities()
        needs = {
            name: [capabilities.of(need).name for need in process.needs.values()]
            for name, process in self.processes.items()
        }
        return {name: why for name in sorted(needs) if (why := self.connections.hindrance(name, needs[name]))}

    def open_run(
        self,
        definition: ProcessDefinition,
        request: BaseModel,
        *,
        actor: Actor | None = None,
        prefect_run_id: str | None = None,
    ) -> str:
        """Open a run that the caller executes at once, its input on the record.

        Args:
            definition: The process.
            request: Its input.
            actor: Who starts it; without one, the user that this program runs as.
            prefect_run_id: The Prefect flow run that executes it, if there is one already.

        Returns:
            The run's id.
        """
        opening = Opening(
            definition=definition,
            request=request,
            run_id=new_run_id(),
            actor=actor or this_user(),
            prefect_run_id=prefect_run_id,
            reserved=True,
        )
        with self.record.store.write() as tx:
            self.runs.open(tx, opening)
        return opening.run_id

    def _bind(self, process: str, protocol: type) -> Bound:
        capability = self.plugins.capabilities().of(protocol)
        name = self.connections.connection_for(process, capability.name)
        if name == HOST:
            return Bound(capability=capability, connection=HOST, version="", instance=getattr(self, capability.name))
        version = self.connections.version_of(name)
        return Bound(
            capability=capability,
            connection=name,
            version=version,
            instance=self.guarded(name),
            admit=self._admit,
            is_proven=partial(self.proofs.is_proven, name),
        )

    def _admit(self, tx: Connection, request: Request) -> None:
        """Let what reaches a customer go out, or hold it for a person."""
        self.answers.admit(tx, request)
        self.prefect_limit.admit(tx, request)


def this_user() -> Actor:
    """Return the user that this program runs as."""
    return Actor(name=f"operator:{getpass.getuser()}", auth="os user")


_lock = Lock()
_current: list[Application] = []


def application(config: Path | None = None) -> Application:
    """Return this program's application, made from its configuration at first use.

    Args:
        config: The configuration file; without one, ``$ORCHESTRATOR_CONFIG`` or one of ``CONFIG_PLACES``.

    Raises:
        ConfigurationError: There is no configuration, or something in it is wrong.
    """
    with _lock:
        if not _current:
            settings = load_settings(config or find_config())
            hide(settings.secrets())
            _current.append(Application(settings))
        return _current[0]


def installed() -> Application:
    """Return this program's application; where no configuration is named or found, one that knows what is installed."""
    if not _current and CONFIG_VARIABLE not in os.environ and not any(place.is_file() for place in CONFIG_PLACES):
        return Application(Settings())
    return application()


def recorded() -> Application:
    """Return this program's application, for commands that look at the record: they never make one, or its key."""
    app = application()
    app.makes_record = False
    return app


def use(app: Application | None) -> None:
    """Make an application the one of this program, for programs that embed the orchestrator.

    Args:
        app: The application; None lets the next use read the configuration again.
    """
    with _lock:
        _current[:] = [app] if app else []
