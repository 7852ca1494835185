"""``orchestrator connectors``: how well they keep their contracts."""

from __future__ import annotations

from pathlib import Path

from cyclopts import App

from orchestrator.cli.output import Json, complain, print_json, say, show
from orchestrator.kit.examining import examine, installed_connector
from orchestrator.kit.tiers import Tier, counted, rulings, tier_of

connectors = App(name="connectors", help="How well a connector keeps its contracts.")
TESTS = Path("tests")


@connectors.command(name="test")
def examined(name: str, *, tests: Path = TESTS, json: Json = False) -> int:
    """Run the contracts of a connector, and tell its tier: none, bronze, silver, gold or platinum.

    Exit code 1 if it does not reach bronze, or if a test failed.

    Example: ``orchestrator connectors test s3 --tests tests``

    Args:
        name: The connector.
        tests: The file or directory of its tests.
        json: Print JSON.
    """
    evidence, said = examine(installed_connector(name), tests)
    judged = rulings(evidence)
    tier = tier_of(judged)
    contracts = [{"contract": contract, **counts} for contract, counts in counted(evidence.notes).items()]
    rules = [
        {"rule": each.rule.name, "tier": each.rule.tier, "kept": not each.problems, "problems": each.problems}
        for each in judged
    ]
    failed = any(note.outcome == "failed" for note in evidence.notes)
    if failed:
        complain(said)
    if json:
        print_json({"connector": name, "tier": tier, "contracts": contracts, "rules": rules})
    else:
        show(contracts, ("contract", "passed", "deviates", "failed", "skipped"), as_json=False, empty="")
        show(rules, ("rule", "tier", "kept", "problems"), as_json=False, empty="")
        say(f"{name}: {tier}")
    return 1 if failed or tier is Tier.NONE else 0
