"""A configuration that others may read holds no secret."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.bindings import connect
from orchestrator.errors import ConfigurationError
from orchestrator.plugins.host import PluginHost
from tests.support.configurations import load, mistakes
from tests.support.paths import ROOT
from tests.support.webhooks import HOOKS, SECRET, plugins

OPEN_MODES = [0o644, 0o640, 0o604, 0o620, 0o602]
REMEDY = "and others than its owner may use it (mode {:03o}); run chmod 600 o.toml"
MAIL = """
[connections.post]
connector = "mail"
address = "shop@shop.example"
[connections.post.smtp]
host = "127.0.0.1"
port = 25
security = "plain"
username = "shop"
"""


def with_mode(folder: Path, mode: int) -> Path:
    (folder / "o.toml").touch()
    (folder / "o.toml").chmod(mode)
    return folder


@pytest.fixture(scope="module")
def host() -> PluginHost:
    return PluginHost()


@pytest.mark.parametrize("mode", OPEN_MODES, ids=oct)
def test_a_file_with_a_secret_that_others_may_use_is_refused(tmp_path: Path, mode: int) -> None:
    found = mistakes(with_mode(tmp_path, mode), HOOKS)
    assert found == [f"o.toml: holds a secret ([webhooks.shop] secrets.0), {REMEDY.format(mode)}"]
    (tmp_path / "o.toml").chmod(0o600)
    assert load(tmp_path, HOOKS).webhooks


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('store.url = "postgresql://app:a-password@db/app"', "[store] url"),
        ('[webhooks.a]\nprocess = "p"\nverify = "github"\nsecrets = "one\\ntwo"', "[webhooks.a] secrets.0"),
        (f'[webhooks.a]\nprocess = "p"\nverify = "none"\npath_secret = "{"s" * 32}"', "[webhooks.a] path_secret"),
        ('[connections.a]\nconnector = "shop-sql"\nurl = "mysql://a:secret@db/a"', "[connections.a] url"),
    ],
)
def test_every_secret_of_our_own_settings_counts(tmp_path: Path, text: str, place: str) -> None:
    assert mistakes(with_mode(tmp_path, 0o644), text)[0].startswith(f"o.toml: holds a secret ({place}), and others")


def test_a_secret_that_only_its_connector_knows_counts(tmp_path: Path, host: PluginHost) -> None:
    settings = load(with_mode(tmp_path, 0o644), MAIL + 'password = "a password"\n')
    with pytest.raises(ConfigurationError, match=r"holds a secret \(\[connections.post.smtp\] password\)") as caught:
        connect(settings, host)
    assert "a password" not in str(caught.value)


def test_a_file_without_secrets_may_be_read_by_everybody(tmp_path: Path, host: PluginHost) -> None:
    folder = with_mode(tmp_path, 0o644)
    connect(load(folder, MAIL, CONNECTIONS__POST__SMTP__PASSWORD="a password"), host)
    connect(load(folder, MAIL, {"connections__post__smtp__password": "127.0.0.1:25"}), host)


def test_a_secret_that_a_variable_replaces_is_not_the_files(tmp_path: Path) -> None:
    text = HOOKS.replace(f'["{SECRET}"]', '["an older secret"]')
    given = {f"WEBHOOKS__{name}__SECRETS": SECRET for name in ("SHOP", "SLACK")}
    settings = load(with_mode(tmp_path, 0o644), text, WEBHOOKS__KEAP__PATH_SECRET="p" * 32, **given)
    connect(settings, plugins())


def test_the_secrets_of_the_sandbox_are_known_to_everybody(tmp_path: Path, host: PluginHost) -> None:
    sandbox = (ROOT / "config" / "sandbox.toml").read_text()
    assert len(connect(load(with_mode(tmp_path, 0o644), sandbox), host)._sections) == 5
