"""Where plug-ins are found: entry points of installed distributions, and modules that the configuration names."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import Distribution, EntryPoint, distributions
from pathlib import Path

from orchestrator.errors import PluginError
from orchestrator.plugins.connector import API

OWN_DISTRIBUTION = "process-orchestrator"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A plug-in that was found and not yet imported.

    Args:
        name: The name of its entry point.
        load: Imports it.
        distribution: The installed package that it comes from; empty if it was handed in.
        version: The version of that package.
        extra: What to install so that its imports are there, for example ``process-orchestrator[s3]``; empty
            if the distribution has no extra of the plug-in's name.
        remedy: What to do if its module is not there, and no extra brings it.
    """

    name: str
    load: Callable[[], object]
    distribution: str = ""
    version: str = ""
    extra: str = ""
    remedy: str = "install it, or correct the entry point"

    def plugin(self) -> object:
        """Import the plug-in.

        Raises:
            PluginError: It cannot be imported; the message says why, and what to install.
        """
        try:
            return self.load()
        except PluginError:
            raise
        except ModuleNotFoundError as exc:
            raise PluginError(f"cannot be imported: there is no module {exc.name}; {self._remedy(exc.name)}") from exc
        except (Exception, SystemExit) as exc:
            raise PluginError(f"cannot be imported: {where_raised(exc)}") from exc

    def _remedy(self, module: str | None) -> str:
        if module and module.startswith("orchestrator."):
            return f"API {API} is here, and the plug-in was written for another; install a newer version of it"
        return f"pip install '{self.extra}'" if self.extra else self.remedy


def candidates_in(group: str) -> Iterator[Candidate]:
    """Find the plug-ins of one group of entry points.

    Yields:
        Each once, the orchestrator's own first: of two plug-ins that offer the same name, the later is refused.
    """
    found: dict[str, list[Candidate]] = {}
    for distribution in distributions():
        # Reading this one file first keeps the metadata of all other packages unread.
        text = distribution.read_text("entry_points.txt") or ""
        if group in text:
            name = distribution.metadata["Name"] or "unnamed"
            found.setdefault(name, _candidates_of(distribution, name, group))
    for name in sorted(found, key=lambda name: (name != OWN_DISTRIBUTION, name)):
        yield from found[name]


def candidate_at(folder: Path, module: str) -> Candidate:
    """Make a plug-in of a module that no distribution installs.

    Args:
        folder: Where it is looked for first, from its import on.
        module: Its name, ``package.module``.
    """

    def load() -> object:
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
        return import_module(module)

    remedy = f"put it into {folder}, install it, or correct [plugins] modules"
    return Candidate(name=module, load=load, remedy=remedy)


def where_raised(exc: BaseException) -> str:
    """Say what was raised, and on which line: what an author needs to fix a plug-in."""
    frames = [frame for frame in traceback.extract_tb(exc.__traceback__) if not frame.filename.startswith("<")]
    place = f" ({frames[-1].filename}, line {frames[-1].lineno})" if frames else ""
    return f"{type(exc).__name__}: {exc}{place}"


def _candidates_of(distribution: Distribution, name: str, group: str) -> list[Candidate]:
    version = distribution.metadata["Version"] or ""
    extras = distribution.metadata.get_all("Provides-Extra") or []
    try:
        entry_points = distribution.entry_points
    except (TypeError, ValueError) as exc:
        broken = PluginError(f"has an entry_points.txt that cannot be read; write each line as name = module: {exc}")
        return [Candidate(name=name, load=_raising(broken), distribution=name, version=version)]
    return [
        Candidate(
            name=each.name,
            load=_loading(each),
            distribution=name,
            version=version,
            extra=f"{name}[{each.name}]" if each.name in extras else "",
        )
        for each in sorted(entry_points)
        if each.group == group
    ]


def _loading(entry_point: EntryPoint) -> Callable[[], object]:
    def load() -> object:
        if entry_point.pattern.match(entry_point.value) is None:
            raise PluginError("has an entry point that names no module; write it as name = package.module")
        plugin: object = entry_point.load()
        return plugin

    return load


def _raising(error: PluginError) -> Callable[[], object]:
    def load() -> object:
        raise error

    return load
