"""How much goes out without a person's word: to one address, to robots, and in all; the rest waits for a person."""

from __future__ import annotations
