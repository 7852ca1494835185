"""The gateway does what its own description says, whatever is sent to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis import Case
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from orchestrator.gateway.openapi import document
from orchestrator.record.heartbeat import WORKER, Heartbeat
from tests.support.deep import cases
from tests.support.gateways import Served, serve
from tests.support.webhooks import HOOKS, configured

load_all_checks()
CHECKS = [
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
    schemathesis.checks.not_a_server_error,
]
schema = schemathesis.openapi.from_dict(document())


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    app = configured(tmp_path_factory.mktemp("described"), text=HOOKS)
    # A worker that was seen a day ahead is alive for as long as these tests take.
    Heartbeat(replace(app.record, clock=lambda: datetime.now(UTC) + timedelta(days=1)), WORKER).beat()
    with serve(app) as served:
        yield served
    app.record.store.close()


@schema.parametrize()
@settings(max_examples=cases(30, 2000), suppress_health_check=list(HealthCheck))
def test_every_answer_is_one_that_the_description_knows(case: Case, gateway: Served) -> None:
    case.call_and_validate(base_url=f"http://127.0.0.1:{gateway.port}", checks=CHECKS)


def test_a_name_with_a_line_break_is_answered_as_the_description_says(gateway: Served) -> None:
    case = schema["/hooks/{path}"]["POST"].Case(path_parameters={"path": "\nB"}, body={})
    response = case.call_and_validate(base_url=f"http://127.0.0.1:{gateway.port}", checks=CHECKS)
    assert response.status_code == 401


def test_the_description_is_served_and_names_no_webhook(gateway: Served, tmp_path: Path) -> None:
    answer = gateway.client.get("/openapi.json")
    assert answer.json() == document()
    assert "shop" not in answer.text
    assert gateway.app.inbox.listed(limit=1) == []
