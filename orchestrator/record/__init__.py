"""The record: one append-only, tamper-evident trail, and the state that runs are resumed from."""

from __future__ import annotations
