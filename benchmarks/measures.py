"""What is measured of one side: one customer at a time, many at once, a burst, and doing nothing."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from statistics import median, quantiles

from benchmarks.sides import Caller, Mails, Side, new_customer

ACCEPTED = 202


@dataclass(frozen=True, kw_only=True)
class Served:
    """How some customers were served.

    Args:
        seconds: From the call to the mail, each.
        accepted: From the call to its answer, each.
        took: From the first call to the last mail.
        cpu: Seconds of CPU for each of them.
        lost: How many got no mail.
        twice: How many got more than one.
    """

    seconds: list[float]
    accepted: list[float]
    took: float
    cpu: float
    lost: int
    twice: int

    @property
    def median(self) -> float:
        """Seconds from the call to the mail, in the median."""
        return median(self.seconds)

    @property
    def a_second(self) -> float:
        """Mails a second."""
        return len(self.seconds) / self.took

    @property
    def accept_p99(self) -> float:
        """Seconds to the answer that one call in a hundred takes longer than."""
        return quantiles(self.accepted, n=100)[-1]


async def serve(side: Side, mails: Mails, customers: int, *, at_once: int) -> Served:
    """Let so many senders call one after the other, each with the next customer when the last one has their mail.

    Args:
        side: The side.
        mails: What the mail server took.
        customers: How many there are.
        at_once: How many senders.
    """
    return await _measured(side, mails, customers, senders=at_once, each_waits=True)


async def burst(side: Side, mails: Mails, customers: int, *, connections: int) -> Served:
    """Let so many senders call as fast as they are answered, and wait for the mails then."""
    return await _measured(side, mails, customers, senders=connections, each_waits=False)


async def idle_cpu(side: Side, seconds: float) -> float:
    """Return the part of a core that a side uses while nobody calls."""
    before = side.cpu()
    await asyncio.sleep(seconds)
    return (side.cpu() - before) / seconds


async def _measured(side: Side, mails: Mails, customers: int, *, senders: int, each_waits: bool) -> Served:
    called: dict[str, float] = {}
    accepted: list[float] = []
    waiting = iter([new_customer() for _ in range(customers)])
    cpu, began = side.cpu(), time.monotonic()

    async def send() -> None:
        caller = Caller(side.port)
        for customer in waiting:
            called[customer] = time.monotonic()
            if await caller.call(customer) == ACCEPTED:
                accepted.append(time.monotonic() - called[customer])
            if each_waits:
                await mails.to(customer)
        caller.close()

    await asyncio.gather(*(send() for _ in range(senders)))
    served = await asyncio.gather(*(mails.to(customer) for customer in called), return_exceptions=True)
    arrived = [each for each in served if isinstance(each, float)]
    return Served(
        seconds=[at - called[customer] for customer, at in zip(called, served, strict=True) if isinstance(at, float)],
        accepted=accepted,
        took=max(arrived) - began,
        cpu=(side.cpu() - cpu) / customers,
        lost=customers - len(arrived),
        twice=sum(mails.taken[customer] > 1 for customer in called),
    )
