"""Finds what does not fit together: processes, capabilities, connections, mailboxes, webhooks and schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from email.headerregistry import Address

from pydantic import ValidationError

from orchestrator.bindings.sections import Configured
from orchestrator.bindings.webhooks import WebhookFit
from orchestrator.capabilities import HOST_CAPABILITIES, Mailbox, Notifier
from orchestrator.plugins.contract import OfferedProcess
from orchestrator.plugins.host import PROCESSES, PluginHost
from orchestrator.settings import HOST, MailboxSettings, Problem, Settings, problems_in
from orchestrator.spelling import nearest, suggestion

_A_NOTICE = {"title": "1 run stopped", "lines": ["run r-1 failed"], "severity": "alarm"}


class Compatibility:
    """Judges the configuration by what the connections give and the processes need.

    Args:
        settings: The configuration.
        sections: The connections, as they are configured.
        host: The plug-ins.
    """

    def __init__(self, settings: Settings, sections: Mapping[str, Configured], host: PluginHost) -> None:
        self._settings = settings
        self._sections = sections
        self._connectors = {name: section.connector for name, section in sections.items()}
        self._host = host
        self._capabilities = host.capabilities()

    def problems(self, processes: Mapping[str, OfferedProcess]) -> list[Problem]:
        """Find everything that does not fit."""
        return [
            *self._plugin_problems(),
            *self._bindings_problems(("bindings",), self._settings.bindings),
            *self._section_problems(processes),
            *self._schedule_problems(processes),
            *self._need_problems(processes),
            *self._mailbox_problems(processes),
            *self._alarm_problems(processes),
            *self.webhook_problems(processes),
        ]

    def webhook_problems(self, processes: Mapping[str, OfferedProcess]) -> Iterator[Problem]:
        """Find what does not fit about webhooks."""
        for name, webhook in self._settings.webhooks.items():
            fit = WebhookFit(self._settings, name)
            yield from fit.proof_problems()
            where = self._settings.where("webhooks", name, "process")
            if problem := self._startable_problem(where, webhook.process, processes):
                yield problem
            else:
                yield from fit.input_problems(webhook.process, processes[webhook.process].definition.request)

    def binding(self, process: str, capability: str) -> tuple[tuple[str, ...], str] | None:
        """Return where a capability is bound for a process, and to which connection; None if it is not."""
        section = self._settings.processes.get(process)
        if section is not None and capability in section.bindings:
            return ("processes", process, "bindings", capability), section.bindings[capability]
        if capability in self._settings.bindings:
            return ("bindings", capability), self._settings.bindings[capability]
        return None

    def binding_problem(self, path: tuple[str, ...], connection: str) -> Problem | None:
        """Tell why a binding cannot work, None if it can; the last part of its path is the capability."""
        capability, where = path[-1], self._settings.where(*path)
        if capability not in self._capabilities:
            return Problem(where, "is no capability", suggestion(capability, self._capabilities.bindable))
        if capability in HOST_CAPABILITIES:
            remedy = f'remove the line, or write {capability} = "{HOST}"'
            return None if connection == HOST else Problem(where, "is answered by the host itself", remedy)
        return self._connection_problem(where, connection, self._capabilities[capability].protocol)

    def unbound(self, process: str, capability: str) -> Problem:
        """Say that nothing answers a capability that a process needs."""
        where = self._settings.where("bindings", capability)
        what = f'process "{process}" needs {capability}, and no connection is bound to it'
        return Problem(where, what, self._who_could_answer(self._capabilities[capability].protocol))

    def _plugin_problems(self) -> Iterator[Problem]:
        names = self._host.names()
        for place, name in enumerate(self._settings.plugins.disabled):
            if name not in names:
                where = self._settings.where("plugins", "disabled", place)
                yield Problem(where, f'there is no plug-in "{name}"', suggestion(name, names))

    def _bindings_problems(self, path: tuple[str, ...], bindings: Mapping[str, str]) -> Iterator[Problem]:
        for capability, connection in bindings.items():
            if problem := self.binding_problem((*path, capability), connection):
                yield problem

    def _section_problems(self, processes: Mapping[str, OfferedProcess]) -> Iterator[Problem]:
        for name, section in self._settings.processes.items():
            if name not in processes:
                yield self._unknown_process(self._settings.where("processes", name), name, processes)
                continue
            yield from self._bindings_problems(("processes", name, "bindings"), section.bindings)

    def _schedule_problems(self, processes: Mapping[str, OfferedProcess]) -> Iterator[Problem]:
        for name, process in processes.items():
            schedule = self._settings.schedule_of(name, process.definition.schedule)
            if schedule is None or not self._is_enabled(name):
                continue
            path, model = ("processes", name, "schedule"), process.definition.request
            if schedule.rhythm is None:
                remedy = "write one of cron, every_seconds and rrule, or enabled = false"
                yield Problem(self._settings.where(*path), "has no rhythm", remedy)
            try:
                model.model_validate(schedule.request)
            except ValidationError as exc:
                yield from problems_in(exc, model, lambda place: self._settings.where(*place), below=(*path, "request"))

    def _need_problems(self, processes: Mapping[str, OfferedProcess]) -> Iterator[Problem]:
        for name, process in processes.items():
            for capability in self._unanswered(name, process) if self._is_enabled(name) else ():
                yield self.unbound(name, capability)

    def _unanswered(self, name: str, process: OfferedProcess) -> Iterator[str]:
        """Find the capabilities that a process needs and that nobody has bound, or tried to."""
        for capability in dict.fromkeys(self._capabilities.of(need).name for need in process.definition.needs.values()):
            answered = capability in HOST_CAPABILITIES or self.binding(name, capability) is not None
            if not answered and not self._is_misspelt(name, capability):
                yield capability

    def _is_misspelt(self, process: str, capability: str) -> bool:
        """Tell whether a binding was meant for it: that is said where it stands, and is one mistake."""
        section = self._settings.processes.get(process)
        bound = {*self._settings.bindings, *(section.bindings if section else ())}
        return any(
            nearest(each, self._capabilities.bindable) == capability for each in bound - self._capabilities.keys()
        )

    def _mailbox_problems(self, processes: Mapping[str, OfferedProcess]) -> Iterator[Problem]:
        for name, mailbox in self._settings.mailboxes.items():
            where = self._settings.where("mailboxes", name, "connection")
            if problem := self._connection_problem(where, mailbox.connection, Mailbox):
                yield problem
            if problem := self._started_process_problem(name, mailbox, processes):
                yield problem

    def _started_process_problem(
        self, name: str, mailbox: MailboxSettings, processes: Mapping[str, OfferedProcess]
    ) -> Problem | None:
        where, process = self._settings.where("mailboxes", name, "process"), mailbox.process
        if problem := self._startable_problem(where, process, processes):
            return problem
        fields = processes[process].definition.request.model_fields
        demanded = {field for field, info in fields.items() if info.is_required()}
        if "delivery" not in fields or demanded - {"delivery"}:
            what = f'the input of process "{process}" is no mail'
            return Problem(where, what, "name a process whose input has the field delivery, and demands no other")
        return None

    def _alarm_problems(self, processes: Mapping[str, OfferedProcess]) -> Iterator[Problem]:
        if self._settings.alarms is None:
            return
        where, process = self._settings.where("alarms", "process"), self._settings.alarms.process
        if problem := self._startable_problem(where, process, processes):
            yield problem
            return
        try:
            processes[process].definition.request.model_validate(_A_NOTICE)
        except ValidationError:
            what = f'the input of process "{process}" is no notice'
            yield Problem(where, what, "name a process whose input has the fields title, lines and severity alone")
        if any(self._unanswered(process, processes[process])):
            what = f'"{process}" cannot be executed, so nobody learns what stops'
            yield Problem(where, what, "bind what it needs")
        yield from self._unread_notices(process)

    def _unread_notices(self, process: str) -> Iterator[Problem]:
        """Find notices that are mailed to where our own mail is taken in, and left unanswered."""
        bound = self.binding(process, self._capabilities.of(Notifier).name)
        section = self._sections.get(bound[1]) if bound else None
        address = getattr(section.settings, "notices_to", None) if section else None
        if bound and address in self._own_addresses():
            where = self._settings.where("connections", bound[1], "notices_to")
            what = "is a mailbox that mail is taken in from: nobody would read the notices"
            yield Problem(where, what, "write an address that a person reads")

    def _own_addresses(self) -> set[str]:
        """Return the addresses whose mail is taken in, as far as they are known."""
        boxes = self._settings.mailboxes.values()
        settings = [self._sections[box.connection].settings for box in boxes if box.connection in self._sections]
        senders = [getattr(each, "sender", None) for each in settings]
        theirs = {sender.addr_spec.lower() for sender in senders if isinstance(sender, Address)}
        return theirs.union(*(box.addresses for box in boxes))

    def _startable_problem(self, where: str, process: str, processes: Mapping[str, OfferedProcess]) -> Problem | None:
        if process not in processes:
            return self._unknown_process(where, process, processes)
        if not self._is_enabled(process):
            remedy = f"name another process, or remove enabled = false below [processes.{process}]"
            return Problem(where, f'process "{process}" is switched off', remedy)
        return None

    def _connection_problem(self, where: str, connection: str, capability: type) -> Problem | None:
        if connection == HOST:
            what = f"the {HOST} answers {', '.join(sorted(HOST_CAPABILITIES))} alone"
            return Problem(where, what, self._who_could_answer(capability))
        if connection not in self._connectors:
            what = f'there is no connection "{connection}"'
            return Problem(
                where, what, f"{suggestion(connection, self._connectors)}, or write [connections.{connection}]"
            )
        connector = self._connectors[connection]
        if capability not in connector.provides:
            what = f'connection "{connection}" gives no {capability.__name__} (its connector is {connector.name})'
            return Problem(where, what, self._who_could_answer(capability))
        if missing := connector.lacks(self._sections[connection].settings, capability):
            return Problem(where, f'connection "{connection}" gives no {capability.__name__} as it is', missing)
        return None

    def _who_could_answer(self, capability: type) -> str:
        able = [name for name, connector in self._connectors.items() if capability in connector.provides]
        if able:
            quoted = [f'"{name}"' for name in sorted(able)]
            return f"write {' or '.join(quoted)}"
        connectors = [name for name, each in self._host.connectors().items() if capability in each.provides]
        if connectors:
            return f"configure a connection whose connector is {' or '.join(sorted(connectors))}, and name it here"
        return f"install a plug-in that gives {capability.__name__}, and configure a connection"

    def _unknown_process(self, where: str, name: str, processes: Mapping[str, OfferedProcess]) -> Problem:
        remedy = suggestion(name, processes)
        reports = self._host.reports
        broken = [f"{each} is broken: {each.problem}" for each in reports if each.group == PROCESSES and each.problem]
        return Problem(where, f'there is no process "{name}"', "; ".join([remedy, *broken]))

    def _is_enabled(self, process: str) -> bool:
        section = self._settings.processes.get(process)
        return section is None or section.enabled
