"""``orchestrator connectors``: how well they keep their contracts."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cyclopts import App

from orchestrator.bootstrap import installed
from orchestrator.cli.output import Json, complain, print_json, say, show
from orchestrator.kit.examining import NAMES, examine, installed_connector
from orchestrator.kit.tiers import Tier, counted, rulings, tier_of

connectors = App(name="connectors", help="How well a connector keeps its contracts.")
TESTS = Path("tests")


@connectors.command(name="test")
def examined(
    name: str, *, tests: Path = TESTS, against: Literal["stand-in", "sandbox", "real"] = "stand-in", json: Json = False
) -> int:
    """Run the contracts of a connector, and tell its tier: none, bronze, silver, gold or platinum, and against what.

    Exit code 1 if it does not reach bronze, or if a test failed.

    Example: ``orchestrator connectors test s3 --tests tests``

    Args:
        name: The connector.
        tests: The file or directory of its tests.
        against: Run the classes that talk to a stand-in, to the vendor's own sandbox, or to a real account.
        json: Print JSON.
    """
    evidence, said = examine(installed_connector(name, installed().plugins), tests, against)
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
        print_json({"connector": name, "tier": tier, "against": against, "contracts": contracts, "rules": rules})
    else:
        show(contracts, ("contract", "passed", "deviates", "failed", "skipped"), as_json=False, empty="")
        show(rules, ("rule", "tier", "kept", "problems"), as_json=False, empty="")
        say(f"{name}: {tier}, measured against {NAMES[against]}")
    return 1 if failed or tier is Tier.NONE else 0
