"""Who is let in at Prefect's server: one auth string, made once, never seen."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydantic import SecretStr

from orchestrator.errors import ConfigurationError
from orchestrator.logs import redact
from orchestrator.prefect_lane.auth import auth_string, headers, left_open, made_in, refused
from orchestrator.prefect_lane.environment import prefect_answers
from orchestrator.prefect_lane.server import names
from orchestrator.sandbox.systems import free_port
from orchestrator.settings import PrefectSettings, ServiceSettings, Settings
from tests.support.gateways import wait_until


def settings(data: Path, **prefect: object) -> Settings:
    return Settings(prefect=PrefectSettings.model_validate(prefect), service=ServiceSettings(data=data))


def test_of_many_that_make_it_at_once_all_have_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = set(pool.map(made_in, [tmp_path / "data" / "prefect"] * 40))
    assert len(made) == 1
    assert [file.name for file in (tmp_path / "data" / "prefect").iterdir()] == ["auth-string"]
    assert redact(f"said {made.pop()}") == "said [hidden]"


def test_what_is_configured_goes_before_prefects_variable_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PREFECT_API_AUTH_STRING", raising=False)
    assert auth_string(settings(tmp_path)) is None
    assert auth_string(settings(tmp_path)) is None, "to ask makes nothing"
    made = made_in(tmp_path / "prefect")
    assert auth_string(settings(tmp_path)) == made
    assert auth_string(settings(tmp_path, serve=False)) is None, "somebody else's server has nothing of ours"
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "from:the-variable")
    assert auth_string(settings(tmp_path, serve=False)) == "from:the-variable"
    assert auth_string(settings(tmp_path, auth_string=SecretStr("configured:it"))) == "configured:it"


def test_one_that_others_may_read_is_refused(tmp_path: Path) -> None:
    made = made_in(tmp_path / "prefect")
    (tmp_path / "prefect" / "auth-string").chmod(0o640)
    for ask in (lambda: made_in(tmp_path / "prefect"), lambda: auth_string(settings(tmp_path))):
        with pytest.raises(ConfigurationError, match="others than its owner may read it") as refusal:
            ask()
        assert made not in str(refusal.value)


def test_one_that_cannot_be_kept_says_where(tmp_path: Path) -> None:
    (tmp_path / "prefect").write_text("")
    with pytest.raises(ConfigurationError, match=r"auth-string cannot be (read|written) \(.*\); make the orchestrator"):
        made_in(tmp_path / "prefect")


def test_a_server_that_is_away_is_nothing_to_tell_of(tmp_path: Path) -> None:
    away = settings(tmp_path, api_url="http://127.0.0.1:9/api")
    assert (left_open(away), refused(away)) == ([], [])


def test_a_server_that_asks_nobody_who_they_are_is_told_of(tmp_path: Path) -> None:
    port = free_port(0)
    environment = {**os.environ, "PREFECT_HOME": str(tmp_path / "home"), "PREFECT_SERVER_UI_ENABLED": "false"}
    command = [sys.executable, "-m", "prefect", "server", "start", "--no-services", "--port", str(port)]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    theirs = settings(tmp_path, api_url=f"http://127.0.0.1:{port}/api", serve=False)
    with subprocess.Popen(command, env=environment, **quiet) as server:
        try:
            wait_until(lambda: prefect_answers(theirs.prefect.api_url))
            (told,) = left_open(theirs)
            (of_ours,) = left_open(settings(tmp_path, api_url=theirs.prefect.api_url))
        finally:
            server.kill()
    assert "[prefect] api_url: Prefect's server answers without a log-in" in told
    assert told.endswith("write the same here as the secret prefect__auth_string")
    assert of_ours.endswith("stop it, and let `orchestrator up` start it")


def test_the_server_answers_to_its_own_names(tmp_path: Path) -> None:
    own = {"localhost", "127.0.0.1", "[::1]"}
    assert set(names("127.0.0.1", "http://127.0.0.1:4200/api")) == own
    assert set(names("0.0.0.0", "http://prefect.lan:4200/api")) == own | {"0.0.0.0", "prefect.lan"}
    assert set(names("fd00::1", "http://[fd00::1]:4200/api")) == own | {"[fd00::1]"}


def test_a_call_carries_it_as_prefects_own_client_writes_it() -> None:
    assert headers("admin:pass") == {"Authorization": "Basic YWRtaW46cGFzcw=="}
    assert headers(None) == {}
