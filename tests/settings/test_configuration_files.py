"""The configuration files that come with the project, read through the real connectors and processes."""

from __future__ import annotations

import itertools
import re
import tomllib
from pathlib import Path

import pytest

from orchestrator.bindings import Connections, connect
from orchestrator.plugins.host import PluginHost
from orchestrator.sandbox.gmail import Consents
from orchestrator.sandbox.keap import ASSETS, Gate
from orchestrator.sandbox.object_store import ObjectStore
from orchestrator.sandbox.shop import PRODUCTS, QUERY
from orchestrator.settings import Settings, load_settings
from tests.support.paths import ROOT

CONFIG = ROOT / "config"
SECRETS = {
    "connections__shop__url": "sqlite:///shop.db",
    "connections__support_mail__smtp__password": "a password",
    "connections__support_mail__imap__password": "a password",
}


@pytest.fixture(scope="module")
def host() -> PluginHost:
    return PluginHost(modules=["flows"])


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    for name, value in SECRETS.items():
        (tmp_path / name).write_text(value)
        (tmp_path / name).chmod(0o600)
    return tmp_path


def fitting(settings: Settings, host: PluginHost) -> Connections:
    connections = connect(settings, host)
    assert connections.compatibility(host.processes()) == []
    for name in connections:
        connections.get(name)
    return connections


def test_the_sandbox_fits_together(host: PluginHost) -> None:
    connections = fitting(load_settings(CONFIG / "sandbox.toml", {}), host)
    bound = [connections.connection_for("lost-download", name) for name in ("order_records", "file_links", "mailer")]
    assert bound == ["shop", "files", "support_mail"]


def test_the_demo_can_move_the_sandboxs_systems(host: PluginHost) -> None:
    moved = {
        "ORCHESTRATOR_CONNECTIONS__SHOP__URL": "sqlite:///elsewhere.db",
        "ORCHESTRATOR_CONNECTIONS__CRM__BASE_URL": "http://127.0.0.1:9002/crm",
        "ORCHESTRATOR_CONNECTIONS__GMAIL__ENDPOINT_URL": "http://127.0.0.1:9003",
        "ORCHESTRATOR_CONNECTIONS__FILES__ENDPOINT_URL": "http://127.0.0.1:9001",
        "ORCHESTRATOR_CONNECTIONS__SUPPORT_MAIL__SMTP__PORT": "4025",
        "ORCHESTRATOR_CONNECTIONS__SUPPORT_MAIL__IMAP__PORT": "4143",
    }
    fitting(load_settings(CONFIG / "sandbox.toml", moved), host)


def test_the_sandbox_asks_for_what_its_systems_hold() -> None:
    connections = load_settings(CONFIG / "sandbox.toml", {}).connections
    assert connections["shop"]["query"] == QUERY
    assert connections["files"]["known_asset"] in {product.asset for product in PRODUCTS}
    assert (connections["files"]["region"], connections["files"]["access_key_id"]) == (
        ObjectStore.region,
        ObjectStore.access_key_id,
    )
    app = connections["gmail"]["app"]
    assert (app["client_id"], app["client_secret"]) == (Consents().client_id, Consents().client_secret)
    assert (connections["crm"]["assets"], connections["crm"]["api_key"]) == (ASSETS, Gate.api_key)


def test_the_example_for_production_fits_together_once_its_secrets_are_given(host: PluginHost, secrets: Path) -> None:
    fitting(load_settings(CONFIG / "production.example.toml", {"ORCHESTRATOR_SECRETS_DIR": str(secrets)}), host)


def test_the_example_for_production_shows_every_section() -> None:
    document = tomllib.loads((CONFIG / "production.example.toml").read_text())
    assert set(document) | {"webhooks"} == set(Settings.model_fields)


def test_the_webhook_in_the_example_for_production_fits_once_it_is_no_comment(
    host: PluginHost, secrets: Path, tmp_path: Path
) -> None:
    comment = (CONFIG / "production.example.toml").read_text().partition("webhooks__shop_orders__secrets\n#\n")[2]
    lines = itertools.takewhile(lambda line: line.startswith("#"), comment.splitlines())
    example = "\n".join(line.removeprefix("#").strip() for line in lines)
    config = tmp_path / "o.toml"
    config.write_text((CONFIG / "production.example.toml").read_text() + example)
    given = {
        "ORCHESTRATOR_SECRETS_DIR": str(secrets),
        "ORCHESTRATOR_WEBHOOKS__SHOP_ORDERS__SECRETS": "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
    }
    settings = load_settings(config, given)
    fitting(settings, host)
    assert settings.webhooks["shop_orders"].verify == "standard-webhooks"


def test_the_webhooks_in_the_manual_are_right(host: PluginHost, tmp_path: Path) -> None:
    """Two need a process of the reader's own, and say so; all else about them must fit once secrets are given."""
    manual = (CONFIG.parent / "docs" / "webhooks.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", manual, re.DOTALL)
    assert len(blocks) == 8
    for block in blocks:
        (name,) = tomllib.loads(block)["webhooks"]
        (tmp_path / "o.toml").write_text(block)
        field = "PATH_SECRET" if "none" in block else "SECRETS"
        given = {f"ORCHESTRATOR_WEBHOOKS__{name}__{field}".upper(): "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"}
        problems = connect(load_settings(tmp_path / "o.toml", given), host).webhook_problems(host.processes())
        own = 'process = "your-process"' in block
        assert [problem.what for problem in problems] == (['there is no process "your-process"'] if own else [])


def test_the_example_for_production_holds_no_secret() -> None:
    text = (CONFIG / "production.example.toml").read_text()
    settings = [line.partition("#")[0] for line in text.splitlines()]
    assert not [line for line in settings if "password" in line or "secret" in line or "access_key" in line]
