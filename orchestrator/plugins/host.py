"""The plug-in host: finds plug-ins, lets them register, and says which one is broken and why.

Three groups of entry points are known: ``orchestrator.capabilities``, ``orchestrator.connectors`` and
``orchestrator.processes``. Each is loaded when it is first asked for, because processes import Prefect and a look at
the connectors should not. A module that the configuration names has to be imported to see which hooks it has.
A plug-in that pluggy refuses, or whose hook fails, is named and left out.
"""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import pluggy

from orchestrator import __version__
from orchestrator.errors import PluginError
from orchestrator.plugins import hooks, standard
from orchestrator.plugins.capability import Capabilities
from orchestrator.plugins.connector import Connector
from orchestrator.plugins.contract import OfferedProcess, connector_problems, process_problems
from orchestrator.plugins.discovery import OWN_DISTRIBUTION, Candidate, candidate_at, candidates_in, where_raised
from orchestrator.plugins.protocols import capability_problems
from orchestrator.spelling import suggestion

CAPABILITIES = "orchestrator.capabilities"
CONNECTORS = "orchestrator.connectors"
PROCESSES = "orchestrator.processes"


@dataclass(frozen=True, kw_only=True)
class PluginReport:
    """What became of one plug-in.

    Args:
        name: The name of its entry point.
        distribution: The installed package that it comes from; empty if it was handed in.
        version: The version of that package.
        group: The group of entry points that it was found in.
        state: ``broken`` ones offer nothing.
        problem: Why it is broken, and what to write instead.
        offers: The names of the capabilities, connectors or processes that it offers, as the group says.
    """

    name: str
    distribution: str
    version: str
    group: str
    state: Literal["loaded", "disabled", "broken"]
    problem: str = ""
    offers: tuple[str, ...] = ()

    def __str__(self) -> str:
        source = f" ({self.distribution} {self.version})" if self.distribution else ""
        return f'plug-in "{self.name}"{source}'


@dataclass(frozen=True)
class _Kind:
    """What the groups differ in."""

    noun: str
    group: str
    hook: str
    problems: Callable[[object, Capabilities], list[str]]
    name_of: Callable[[Any], str]


_CAPABILITY = _Kind(
    "capability", CAPABILITIES, "register_capabilities", capability_problems, lambda offered: offered.name
)
_CONNECTOR = _Kind("connector", CONNECTORS, "register_connectors", connector_problems, lambda offered: offered.name)
_PROCESS = _Kind("process", PROCESSES, "register_processes", process_problems, lambda offered: offered.definition.name)
_KINDS = (_CAPABILITY, _CONNECTOR, _PROCESS)


@dataclass
class _Group:
    """One group, loaded: what it offers, which plug-in offers it, and what became of each plug-in."""

    offers: dict[str, Any] = field(default_factory=dict)
    owners: dict[str, PluginReport] = field(default_factory=dict)
    reports: list[PluginReport] = field(default_factory=list)


class PluginHost:
    """The plug-ins of one application.

    Args:
        disabled: Names of plug-ins that are not to be loaded.
        modules: Modules that are plug-ins, by name, beside those that are installed.
        folder: Where these are looked for first.
        extra: Further plug-ins by name, for tests and for programs that embed the orchestrator: modules or objects
            with hooks.
    """

    def __init__(
        self,
        *,
        disabled: Collection[str] = (),
        modules: Collection[str] = (),
        folder: Path = Path(),
        extra: Mapping[str, object] | None = None,
    ) -> None:
        self._disabled = frozenset(disabled)
        self._others = [candidate_at(folder, module) for module in modules]
        self._others += [Candidate(name=name, load=partial(_handed_in, each)) for name, each in (extra or {}).items()]
        self._groups: dict[str, _Group] = {}
        self._loading = threading.RLock()
        self._manager = pluggy.PluginManager(hooks.PROJECT)
        self._manager.add_hookspecs(hooks)

    def capabilities(self) -> Capabilities:
        """Load the capabilities' plug-ins, if that has not been done, and return the capabilities."""
        return Capabilities(self._load(_CAPABILITY).offers.values())

    def connectors(self) -> Mapping[str, Connector[Any]]:
        """Load the connectors' plug-ins, if that has not been done, and return the connectors by name."""
        return MappingProxyType(cast("dict[str, Connector[Any]]", self._load(_CONNECTOR).offers))

    def processes(self) -> Mapping[str, OfferedProcess]:
        """Load the processes' plug-ins, if that has not been done, and return the processes by name."""
        return MappingProxyType(cast("dict[str, OfferedProcess]", self._load(_PROCESS).offers))

    @property
    def reports(self) -> list[PluginReport]:
        """What became of each plug-in of the groups loaded so far; what several groups say alike is said once."""
        with self._loading:
            reports = [report for group in self._groups.values() for report in group.reports]
        return list({(each.name, each.distribution, each.offers, each.problem): each for each in reports}.values())

    def owner_of(self, connector: str) -> PluginReport:
        """Return the plug-in that offers a connector."""
        return self._load(_CONNECTOR).owners[connector]

    def names(self) -> frozenset[str]:
        """Return the names of all plug-ins there are, without importing one."""
        found = [candidate.name for kind in _KINDS for candidate in candidates_in(kind.group)]
        return frozenset([*found, *(candidate.name for candidate in self._others)])

    def _load(self, kind: _Kind) -> _Group:
        with self._loading:
            if kind.group not in self._groups:
                group = _Group()
                for candidate in self._candidates(kind):
                    group.reports.append(self._loaded(candidate, kind, group))
                self._groups[kind.group] = group
            return self._groups[kind.group]

    def _candidates(self, kind: _Kind) -> Iterator[Candidate]:
        if kind is _CAPABILITY:
            yield _STANDARD
        yield from candidates_in(kind.group)
        yield from (candidate for candidate in self._others if self._may_offer(candidate, kind))

    def _may_offer(self, candidate: Candidate, kind: _Kind) -> bool:
        """Tell whether one without an entry point has a group's hook; one that has none is reported by every group."""
        if candidate.name in self._disabled:
            return True
        try:
            plugin = candidate.plugin()
        except PluginError:
            return True
        others = {each.hook for each in _KINDS} - {kind.hook}
        return hasattr(plugin, kind.hook) or not any(hasattr(plugin, hook) for hook in others)

    def _loaded(self, candidate: Candidate, kind: _Kind, group: _Group) -> PluginReport:
        """Let one plug-in register; what it offers is taken whole, or not at all."""
        report = PluginReport(
            name=candidate.name,
            distribution=candidate.distribution,
            version=candidate.version,
            group=kind.group,
            state="loaded",
        )
        if candidate.name in self._disabled and candidate is not _STANDARD:
            return replace(report, state="disabled")
        offers = _Offers(kind, group, None if kind is _CAPABILITY else self.capabilities())
        try:
            self._call_hook(candidate, kind, offers)
        except PluginError as exc:
            return replace(report, state="broken", problem=str(exc))
        report = replace(report, offers=tuple(offers.taken))
        group.offers.update(offers.taken)
        group.owners.update(dict.fromkeys(offers.taken, report))
        return report

    def _call_hook(self, candidate: Candidate, kind: _Kind, offers: _Offers) -> None:
        plugin = candidate.plugin()
        self._register(plugin, f"{candidate.name} of {candidate.distribution or 'this program'}, {kind.group}", kind)
        others = [each for each in self._manager.get_plugins() if each is not plugin]
        try:
            answers = self._manager.subset_hook_caller(kind.hook, others)(register=offers)
        except PluginError as exc:
            raise PluginError(offers.refusal or str(exc)) from exc
        except (Exception, SystemExit) as exc:
            raise PluginError(offers.refusal or f"{kind.hook} failed: {where_raised(exc)}") from exc
        if offers.refusal:
            raise PluginError(offers.refusal)
        for answer in answers:
            if inspect.iscoroutine(answer):
                answer.close()
            raise PluginError(
                f"{kind.hook} returned a {type(answer).__name__}; call register once with each {kind.noun} instead"
            )

    def _register(self, plugin: object, name: str, kind: _Kind) -> None:
        """Register a plug-in with pluggy, unless another group has, and see that all its hooks fit.

        Raises:
            PluginError: A hook is misspelt, missing, or takes other arguments.
        """
        try:
            hash(plugin)  # by which pluggy tells plug-ins apart when it calls the hook of one
            if not self._manager.is_registered(plugin):
                self._manager.register(plugin, name)
            self._refuse_unknown_hooks(plugin)
            self._refuse_other_hooks(plugin, kind)
        except Exception as exc:
            if self._manager.is_registered(plugin):
                self._manager.unregister(plugin)
            if isinstance(exc, PluginError):
                raise
            if isinstance(exc, pluggy.PluginValidationError):
                words = " ".join(str(exc).split())
                raise PluginError(f"a hook does not fit: {words}; write `def {kind.hook}(register)`") from exc
            raise PluginError(f"its hooks cannot be read: {where_raised(exc)}") from exc

    def _refuse_unknown_hooks(self, plugin: object) -> None:
        try:
            self._manager.check_pending()
        except pluggy.PluginValidationError as exc:
            unknown = sorted(
                caller.name
                for caller in self._manager.get_hookcallers(plugin) or []
                if not caller.has_spec() and not all(each.optionalhook for each in caller.get_hookimpls())
            )
            remedy = suggestion(unknown[0], [each.hook for each in _KINDS])
            raise PluginError(f"has a hook {unknown[0]}, which does not exist; {remedy}") from exc

    def _refuse_other_hooks(self, plugin: object, kind: _Kind) -> None:
        """Refuse a plug-in that does not have the hook as the host calls it."""
        hook: pluggy.HookCaller = getattr(self._manager.hook, kind.hook)
        implementations = [each for each in hook.get_hookimpls() if each.plugin is plugin]
        if not implementations:
            raise PluginError(f"has no hook {kind.hook}; write `@hookimpl` above `def {kind.hook}(register)`")
        for each in implementations:
            if "register" not in each.argnames:
                raise PluginError(f"{kind.hook} does not ask for register; write `def {kind.hook}(register)`")
            if each.wrapper or each.hookwrapper:
                raise PluginError(f"{kind.hook} is a wrapper; write a plain `@hookimpl` above it")


def _handed_in(plugin: object) -> object:
    return plugin


_STANDARD = Candidate(
    name="standard",
    load=partial(_handed_in, standard),
    distribution=OWN_DISTRIBUTION,
    version=__version__,
)
"""What the host itself is built upon. It comes first and cannot be disabled."""


class _Offers:
    """The ``register`` that one plug-in is given: checks what is offered, where it is offered."""

    def __init__(self, kind: _Kind, group: _Group, known: Capabilities | None) -> None:
        self.taken: dict[str, Any] = {}
        self.refusal = ""
        self._kind = kind
        self._group = group
        self._known = known

    def __call__(self, offered: object) -> None:
        """Take one capability, connector or process.

        Raises:
            PluginError: It does not fulfil the contract.
        """
        try:
            self._take(offered)
        except PluginError as exc:
            # Kept, because a plug-in that catches it is no less broken.
            self.refusal = self.refusal or str(exc)
            raise

    def _take(self, offered: object) -> None:
        known = self._known or Capabilities([*self._group.offers.values(), *self.taken.values()])
        if problems := self._kind.problems(offered, known):
            raise PluginError("; ".join(f"{self._label(offered)} {problem}" for problem in problems))
        name = self._kind.name_of(offered)
        if name in self.taken:
            raise PluginError(f"{self._label(offered)} is offered twice; give each a name of its own")
        if name in self._group.owners:
            owner = self._group.owners[name]
            raise PluginError(
                f"{self._label(offered)} is offered by {owner} too; rename one, or write one of the two plug-ins "
                "into [plugins] disabled"
            )
        self.taken[name] = offered

    def _label(self, offered: object) -> str:
        try:
            return f'{self._kind.noun} "{self._kind.name_of(offered)}"'
        except AttributeError:
            return f"what it offers as a {self._kind.noun}"


@cache
def installed_capabilities() -> Capabilities:
    """Return the capabilities of the installed plug-ins, for tests and generators, which have no application."""
    return PluginHost().capabilities()
