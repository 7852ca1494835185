"""For tests of processes and plug-ins: a working stand-in for each capability, and the contract it fulfils."""

from __future__ import annotations
