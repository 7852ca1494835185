"""How many calls are dealt with at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager


class AllTaken(Exception):
    """There is no slot.

    Args:
        of_one: True if only this webhook has none left.
    """

    def __init__(self, *, of_one: bool) -> None:
        super().__init__()
        self.of_one = of_one


class ConcurrencyLimit:
    """ConcurrencyLimit for calls; one webhook gets half of them at most, so that its sender leaves room for the others.

    Used from one event loop alone.

    Args:
        total: How many there are.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._taken: Counter[str] = Counter()

    @contextmanager
    def slot(self, name: str) -> Iterator[None]:
        """Take a slot for as long as the block lasts.

        Raises:
            AllTaken: There is none.
        """
        if self._taken.total() >= self._total:
            raise AllTaken(of_one=False)
        if self._taken[name] >= self._total // 2:
            raise AllTaken(of_one=True)
        self._taken[name] += 1
        try:
            yield
        finally:
            self._taken[name] -= 1
