"""A sandbox of real servers with two workers, for tests of what Prefect shows and starts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.bootstrap import Application
from orchestrator.sandbox.shop import THREE_PURCHASES
from orchestrator.sandbox.systems import Sandbox
from tests.support.prefect_operator import open_run_of_a_process_that_is_gone


@pytest.fixture(scope="module")
def prefect() -> list[subprocess.Popen[bytes]]:
    """The Prefect servers started, the present one last."""
    return []


@pytest.fixture(scope="module")
def workers() -> list[subprocess.Popen[bytes]]:
    """The workers that are alive; they share the work pool."""
    return []


@pytest.fixture(scope="module")
def sandbox(
    tmp_path_factory: pytest.TempPathFactory,
    prefect: list[subprocess.Popen[bytes]],
    workers: list[subprocess.Popen[bytes]],
) -> Iterator[Sandbox]:
    data = tmp_path_factory.mktemp("sandbox")
    config = data / "config.toml"
    config.write_text(
        Path("config/sandbox.toml").read_text()
        + f"""
[worker]
lease_seconds = 5

[processes.lost-download.schedule]
every_seconds = 3600
request = {{ email = "{THREE_PURCHASES}", product = "zippers" }}
"""
    )
    with Sandbox(data, config, prefect_port=0) as started:
        started.start_systems()
        prefect.append(started.start_prefect())
        open_run_of_a_process_that_is_gone(started.application())
        workers += [started.start_worker(), started.start_worker()]
        started.wait_for_prefect()
        started.wait_for_worker()
        yield started


@pytest.fixture(scope="module")
def app(sandbox: Sandbox) -> Application:
    return sandbox.application()
