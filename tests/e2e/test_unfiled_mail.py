"""A provider that files nothing in its sent folder, and answers that are lost: nobody gets a second mail."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.sandbox.mail_server import MailServer
from orchestrator.testing.faults import FaultProxy
from tests.support.clock import HandClock
from tests.support.deep import cases
from tests.support.mail_account import ANN, END_OF_MAIL, SHOP, MailBench


@pytest.fixture
def server() -> Iterator[MailServer]:
    with MailServer({SHOP: "shop", ANN: "ann"}, files_sent=False) as running:
        yield running


def test_lost_answers_of_a_provider_that_files_nothing_double_no_mail_and_are_parked(
    server: MailServer, tmp_path: Path, clock: HandClock
) -> None:
    rng, deliveries = random.Random("unfiled"), cases(40, 1_500)
    with FaultProxy("127.0.0.1", server.smtp_port) as proxy, MailBench(tmp_path, server, proxy.port, clock) as bench:
        lost = set()
        for number in range(deliveries):
            # More failures in a row, and the account would be left alone for a while.
            if rng.random() < 0.4 and str(number - 1) not in lost:
                proxy.lose_answer(after=END_OF_MAIL)
                lost.add(str(number))
            bench.send(str(number))
            if number % 5 == 0:
                bench.pass_time()
        bench.pass_time()
        assert Counter(bench.arrived()) == Counter(map(str, range(deliveries)))
        assert bench.parked() == lost
