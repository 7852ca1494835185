"""The contract of each capability, as a class of tests: inherit it, give its fixtures, and pytest runs it."""

from __future__ import annotations

import pytest

_CONTRACTS = (
    "builtin",
    "contacts",
    "doubts",
    "faults",
    "files",
    "mail",
    "mail_watch",
    "mailbox",
    "notices",
    "orders",
    "people",
)

pytest.register_assert_rewrite(*(f"{__name__}.{contract}" for contract in _CONTRACTS))
