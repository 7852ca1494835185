"""The words in which pytest notes how contracts are kept, and tiers are computed. Without pytest."""

from __future__ import annotations

AGAINST = ("stand-in", "sandbox", "real")
"""What contracts are run against: a stand-in on this machine, the vendor's own sandbox, or a real account."""
NO_EFFECT = "the fixture change is not given: only a connector without effects may leave it out"
"""Why the half of ``FaultsContract`` that is about effects was skipped."""
