"""How well a connector keeps its contracts: a tier that is computed from its tests, and never declared.

Each rule belongs to a tier; a tier is reached if all its rules, and those of the tiers below it, are kept. The idea is
that of Home Assistant's quality scale.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from orchestrator.capabilities import OrderRecords, operations_of
from orchestrator.plugins.host import installed_capabilities
from orchestrator.testing.measuring import NO_EFFECT

_FAULTS, _HYGIENE, _BLIND = "FaultsContract", "ConnectorHygieneContract", "BlindAccountContract"
_WORDS = frozenset({"test_the_wait_that_the_system_asks_for_is_handed_on"})
"""What a system must have a word for, or there is nothing to hand on, and nothing is done wrongly. Declared as a
deviation, it costs platinum alone; any other deviation of ``FaultsContract`` means that a fault is not survived."""


class Tier(StrEnum):
    """What was reached, from the least to the most."""

    NONE = "none"
    BRONZE = "bronze"
    SILVER = "silver"
    GOLD = "gold"
    PLATINUM = "platinum"


@dataclass(frozen=True, kw_only=True)
class TestNote:
    """What became of one test of a contract.

    Args:
        connector: Whose test it is; None if the class does not say.
        contract: ``FileLinksContract``.
        test_class: Where the contract was inherited.
        test: The test's name.
        outcome: ``passed``, ``failed``, ``skipped`` or ``deviates``.
        reason: Of a deviation, or why it was skipped.
        against: What it was run against.
        untouched: Whether it talked to a stand-in that answers in the kit's own words.
        promised: All tests of the contract.
        changed: Those of them that the class overrides.
        given: The fixtures that the class gives.
    """

    __test__ = False

    connector: str | None
    contract: str
    test_class: str
    test: str
    outcome: str
    reason: str
    against: str
    untouched: bool
    promised: tuple[str, ...]
    changed: tuple[str, ...]
    given: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What is judged.

    Args:
        provides: The connector's capabilities.
        notes: What became of the tests of its contracts.
    """

    provides: Sequence[type]
    notes: Sequence[TestNote]

    def of(self, contract: str) -> list[TestNote]:
        """Return the notes on one contract."""
        return [note for note in self.notes if note.contract == contract]

    @property
    def has_effects(self) -> bool:
        """Whether the connector changes anything."""
        return any(each.kind == "effect" for kind in self.provides for each in operations_of(kind).values())


@dataclass(frozen=True)
class Rule:
    """One rule.

    Args:
        name: How it is spoken of.
        tier: What it belongs to.
        demand: What it demands, in one sentence.
        broken: Returns what breaks it.
    """

    name: str
    tier: Tier
    demand: str
    broken: Callable[[Evidence], Iterable[str]]


@dataclass(frozen=True)
class Ruling:
    """Whether one rule is kept, and what breaks it."""

    rule: Rule
    problems: tuple[str, ...]


def contract_for(capability: type) -> str:
    """Return the name of a capability's contract."""
    return installed_capabilities().of(capability).contract.rpartition(":")[2] or f"{capability.__name__}Contract"


def rulings(evidence: Evidence) -> list[Ruling]:
    """Judge by every rule."""
    return [Ruling(rule, tuple(rule.broken(evidence))) for rule in RULES]


def tier_of(judged: Sequence[Ruling]) -> Tier:
    """Return the highest tier whose rules, and those below it, are kept."""
    reached = Tier.NONE
    for tier in list(Tier)[1:]:
        if any(each.problems for each in judged if each.rule.tier is tier):
            break
        reached = tier
    return reached


def _incomplete(evidence: Evidence, contract: str) -> Iterator[str]:
    """Tell what of a contract did not run as it was written; one class must run it whole, and none may change it."""
    notes = evidence.of(contract)
    if not notes:
        yield f'no test class inherits {contract} with connector = "..."'
    for changed in sorted({name for note in notes for name in note.changed}):
        yield f"{contract}: {changed} was changed"
    for skipped in sorted({note.test for note in notes if note.outcome == "skipped" and note.reason != NO_EFFECT}):
        yield f"{contract}: {skipped} was skipped"
    ran = {note.test for note in notes}
    for left_out in [name for note in notes[:1] for name in note.promised if name not in ran]:
        yield f"{contract}: {left_out} did not run"


def _contracts_run(evidence: Evidence) -> Iterator[str]:
    for capability in evidence.provides:
        yield from _incomplete(evidence, contract_for(capability))


def _failures(notes: Iterable[TestNote]) -> list[str]:
    return sorted({f"{note.contract}: {note.test} failed" for note in notes if note.outcome == "failed"})


def _capability_notes(evidence: Evidence) -> list[TestNote]:
    return [note for capability in evidence.provides for note in evidence.of(contract_for(capability))]


def _contracts_kept(evidence: Evidence) -> list[str]:
    return _failures(_capability_notes(evidence))


def _deviations(evidence: Evidence) -> Iterator[str]:
    return _excused(_capability_notes(evidence))


def _excused(notes: Iterable[TestNote]) -> Iterator[str]:
    yield from sorted({f"{note.test}: {note.reason}" for note in notes if note.outcome == "deviates"})


def _own_dialect(evidence: Evidence) -> Iterator[str]:
    if any(note.untouched for note in evidence.notes):
        yield "the tests talk to a stand-in in the kit's own words; let it answer as the vendor's documentation says"


def _faults(evidence: Evidence) -> Iterator[str]:
    notes = evidence.of(_FAULTS)
    yield from _incomplete(evidence, _FAULTS)
    yield from _failures(notes)
    yield from _excused(note for note in notes if note.test not in _WORDS)
    if evidence.has_effects:
        left_out = {note.test for note in notes if note.reason == NO_EFFECT}
        tried = {note.test for note in notes if note.reason != NO_EFFECT}
        for name in sorted(left_out - tried):
            yield f"{_FAULTS}: {name} was left out, but the connector has effects; give the fixture change"


def _blindness(evidence: Evidence) -> Iterator[str]:
    if OrderRecords in evidence.provides:
        notes = evidence.of(_BLIND)
        yield from _incomplete(evidence, _BLIND)
        yield from _failures(notes)
        yield from _excused(notes)


def _words(evidence: Evidence) -> Iterator[str]:
    return _excused(note for note in evidence.of(_FAULTS) if note.test in _WORDS)


def _hygiene(evidence: Evidence) -> Iterator[str]:
    notes = evidence.of(_HYGIENE)
    yield from _incomplete(evidence, _HYGIENE)
    yield from _failures(notes)
    yield from _excused(notes)


RULES: Sequence[Rule] = (
    Rule("contracts-run", Tier.BRONZE, "The contract of each capability runs whole and unchanged.", _contracts_run),
    Rule("contracts-kept", Tier.BRONZE, "No test of these contracts fails.", _contracts_kept),
    Rule("no-deviations", Tier.SILVER, "None of these tests is declared as a deviation.", _deviations),
    Rule(
        "vendors-words",
        Tier.SILVER,
        "A stand-in answers as the vendor does, and not as the kit wrote it.",
        _own_dialect,
    ),
    Rule(
        "faults-survived", Tier.GOLD, "FaultsContract runs whole and is kept, its half about effects as well.", _faults
    ),
    Rule("sight-proven", Tier.GOLD, "OrderRecords alone: BlindAccountContract runs whole and is kept.", _blindness),
    Rule("nothing-unsaid", Tier.PLATINUM, "The system can say how long to wait, and that is handed on.", _words),
    Rule("hygiene", Tier.PLATINUM, "ConnectorHygieneContract runs whole and is kept.", _hygiene),
)


def counted(notes: Sequence[TestNote]) -> Mapping[str, Mapping[str, int]]:
    """Count the outcomes of each contract's tests."""
    counts: dict[str, dict[str, int]] = {}
    for note in notes:
        counts.setdefault(note.contract, dict.fromkeys(("passed", "deviates", "failed", "skipped"), 0))
        counts[note.contract][note.outcome] += 1
    return counts
