"""The contract of each capability, as a class of tests: inherit it, give its fixtures, and pytest runs it."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite(
    *(
        f"{__name__}.{capability}"
        for capability in ("contacts", "desk", "files", "mail", "mailbox", "notices", "orders", "people")
    )
)
