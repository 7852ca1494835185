from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.builtin.inbox import HostInbox
from orchestrator.kernel.runs import Runs
from orchestrator.record.record import open_record
from orchestrator.record.verify import verify
from tests.support.deep import cases
from tests.support.gateways import PATIENCE_SECONDS, Process, Served, received, serve, wait_until
from tests.support.webhooks import HOOKS, SECRET, configured, order, signed

KEAP = f"/hooks/keap/{'s' * 32}"
SMALL = "gateway = {in_flight = 4, read_seconds = 1}\n"
FORGED = (401, {"error": "signature"})


PATHS = st.sampled_from(["/hooks/shop", "/hooks/slack", "/hooks/keap", "/hooks/x", "/hooks/shop/\u00fc", "/hooks/"])
NAMES = sorted({name for scheme in ("standard-webhooks", "slack") for name in signed(scheme, b"", 0)})  # type: ignore[arg-type]
WRITTEN = st.sampled_from(["v1,", "v1,=", "v0=", "sha256=", str(int(time.time())), "", ",", "\u00ff"]) | st.text(
    st.characters(min_codepoint=32, max_codepoint=255, exclude_characters="\x7f"), max_size=20
)


@pytest.fixture(scope="module")
def besieged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    app = configured(tmp_path_factory.mktemp("besieged"), text=HOOKS)
    with serve(app) as served:
        yield served
    app.record.store.close()


@settings(max_examples=cases(300, 20_000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=PATHS,
    headers=st.dictionaries(st.sampled_from([*NAMES, "Content-Type", "X-Hook-Secret"]), WRITTEN, max_size=5),
    body=st.binary(max_size=200),
)
def test_no_malformed_call_is_accepted_or_breaks_anything(
    besieged: Served, path: str, headers: dict[str, str], body: bytes
) -> None:
    raw = [(name, value.strip().encode("latin-1")) for name, value in headers.items()]
    response = besieged.client.post(path, content=body, headers=raw)
    assert response.status_code == 401
    assert besieged.app.inbox.listed(limit=1) == []


@settings(max_examples=cases(100, 5000), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(noise=st.binary(max_size=300), head=st.sampled_from([b"", b"POST /hooks/shop HTTP/1.1\r\n", b"POST "]))
def test_no_bytes_on_the_wire_break_anything(besieged: Served, noise: bytes, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", besieged.port), timeout=PATIENCE_SECONDS) as connection:
        connection.sendall(head + noise + b"\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        first = received(connection)
    assert not first or first.split(b" ", 2)[1] in {b"400", b"401", b"404", b"405", b"408"}
    assert besieged.app.inbox.listed(limit=1) == []


# --- bursts, stops and deaths ------------------------------------------------------------------------------------


async def _burst(url: str, number: int, at_once: int) -> list[int]:
    limits = httpx.Limits(max_connections=at_once)
    async with httpx.AsyncClient(base_url=url, limits=limits, timeout=PATIENCE_SECONDS) as client:

        async def send(n: int) -> int:
            body = order(n // 2)
            headers = signed("standard-webhooks", body, time.time(), id_=f"m-{n // 2}")
            return (await client.post("/hooks/shop", content=body, headers=headers)).status_code

        return await asyncio.gather(*(send(n) for n in range(number)))


def test_a_burst_of_duplicates_has_one_run_each(tmp_path: Path) -> None:
    app = configured(tmp_path, text=HOOKS)
    number = cases(100, 5000)
    with serve(app) as served:
        statuses = asyncio.run(_burst(f"http://127.0.0.1:{served.port}", 2 * number, 100))
    assert Counter(statuses) == {202: 2 * number}
    assert len(app.inbox.listed(limit=10**6)) == len(app.runs.listed(limit=10**6)) == number
    app.record.store.close()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path)
    yield process
    process.client.close()
    if process.running is not None and process.running.poll() is None:
        process.running.kill()
        process.running.wait(PATIENCE_SECONDS)


def stored(folder: Path) -> tuple[set[str], set[str]]:
    """Return the deliveries, and those that the runs belong to; all must verify."""
    record = open_record(f"sqlite:///{folder}/r.db", folder / "key")
    deliveries = [found.delivery for found in HostInbox(record).listed(limit=10**6)]
    runs = [f"d-{run.run_id[2:]}" for run in Runs(record).listed(limit=10**6)]
    with record.store.read() as tx:
        assert verify(tx).breaches == ()
    record.store.close()
    assert len(deliveries) == len(set(deliveries))
    return set(deliveries), set(runs)


def test_a_killed_gateway_has_the_run_of_everything_it_answered(process: Process) -> None:
    answered: list[str | None] = []
    number = 0
    for _ in range(cases(2, 20)):
        running = process.start()
        with ThreadPoolExecutor(8) as senders:
            sending = [senders.submit(process.post, number + n) for n in range(200)]
            wait_until(lambda sending=sending: sum(each.done() for each in sending) >= 60)  # type: ignore[misc]
            running.send_signal(signal.SIGKILL)
            running.wait(PATIENCE_SECONDS)
            answered += [each.result() for each in sending]
        number += 200
    answers = {delivery for delivery in answered if delivery}
    deliveries, runs = stored(process.folder)
    assert len(answers) >= 60
    assert answers <= deliveries
    assert deliveries == runs


def test_a_stopped_gateway_answers_what_it_has_begun_and_ends_well(process: Process) -> None:
    running = process.start()
    body = order(1)
    with socket.create_connection(("127.0.0.1", process.port), timeout=PATIENCE_SECONDS) as connection:
        headers = {**signed("standard-webhooks", body, time.time()), "Host": "x", "Content-Length": str(len(body))}
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        connection.sendall(f"POST /hooks/shop HTTP/1.1\r\n{head}\r\n".encode() + body[:10])
        assert process.client.get("/live").status_code == 200
        running.send_signal(signal.SIGTERM)
        wait_until(lambda: _is_closed(process.port))
        connection.sendall(body[10:])
        answered = received(connection)
    assert answered.startswith(b"HTTP/1.1 202")
    assert running.wait(PATIENCE_SECONDS) == 0
    delivery = json.loads(answered.partition(b"\r\n\r\n")[2])["delivery"]
    assert stored(process.folder) == ({delivery}, {delivery})


def _is_closed(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_gateway_with_a_wrong_configuration_says_so_and_ends(process: Process) -> None:
    config = process.folder / "o.toml"
    config.write_text(config.read_text().replace(SECRET, "short"))
    command = [sys.executable, "-m", "orchestrator", "gateway", "--config", str(config)]
    ended = subprocess.run(command, capture_output=True, timeout=PATIENCE_SECONDS, check=False, text=True)
    assert ended.returncode == 1
    assert "[webhooks.shop] secrets.0: is so short that it can be guessed" in ended.stderr
    assert "Traceback" not in ended.stderr
