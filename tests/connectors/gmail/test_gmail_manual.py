"""The manual of the gmail connector says what the connector does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestrator.bindings import connect
from orchestrator.plugins.host import PluginHost
from orchestrator.settings import load_settings
from orchestrator_connectors.gmail.failures import _GRANT_REMEDIES, _REMEDIES
from orchestrator_connectors.gmail.settings import SCOPES, GmailSettings
from tests.support.paths import ROOT

MANUAL = (ROOT / "docs" / "connectors" / "gmail.md").read_text()


def test_every_setting_is_explained() -> None:
    rows = re.findall(r"^\| (`.*?) \|", MANUAL, re.MULTILINE)
    explained = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(GmailSettings.model_fields) <= explained


def test_the_scopes_are_those_that_are_asked_for() -> None:
    assert set(re.findall(r"https://www\.googleapis\.com/auth/[\w.]+", MANUAL)) == set(SCOPES)


def test_the_refusals_in_the_table_are_known() -> None:
    named = set(re.findall(r"^\|.*\(`(\w+)`\)", MANUAL, re.MULTILINE))
    assert named
    assert named <= {*_REMEDIES, *_GRANT_REMEDIES}


@pytest.mark.parametrize("block", re.findall(r"```toml\n(.*?)```", MANUAL, re.DOTALL))
def test_the_examples_fit_once_their_secrets_are_given(block: str, tmp_path: Path) -> None:
    key_file = tmp_path / "key.json"
    key_file.write_text("{}")
    (tmp_path / "o.toml").write_text(block.replace("secrets/gmail-service-account.json", str(key_file)))
    secret = {"ORCHESTRATOR_CONNECTIONS__SUPPORT_MAIL__APP__CLIENT_SECRET": "a secret"} if "app]" in block else {}
    connections = connect(load_settings(tmp_path / "o.toml", secret), PluginHost())
    assert connections.get("support_mail").settlements["send"].probe
