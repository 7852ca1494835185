"""Where the files of this repository are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository; programs that tests start find ``tests.support`` below it."""

TESTS = ROOT / "tests"
"""All tests, what they share, and their data."""

MAILS = TESTS / "data" / "mails"
"""Mails as they came over the wire."""
