"""Released, as it answers on this machine: what the fakes know, in the vendor's words."""

from __future__ import annotations

from orchestrator.testing.standin import Standin


class Vendor(Standin):
    """Answers as the generated connector asks. It also refuses, is silent and loses connections, if a test wants it.

    Write here how the vendor answers, once the connector asks as it wants to be asked: override ``answer``, which is
    given the method, the path and the JSON values of a call, and asks the fakes, which stand in ``fakes``.
    """
