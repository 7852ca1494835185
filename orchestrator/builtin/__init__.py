"""The capabilities that the host answers itself: questions to people, stored mail, cases."""

from __future__ import annotations
