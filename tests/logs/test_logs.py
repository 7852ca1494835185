from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from orchestrator.errors import Unavailable
from orchestrator.logs import RepeatFilter, about
from orchestrator.logs.context import fields_now
from orchestrator.logs.formats import Form, JsonLines, form_for
from orchestrator.logs.guard import _harmless, told
from orchestrator.logs.redaction import Redactor
from orchestrator.settings import load_settings, secrets_in
from orchestrator.settings.section import Section

WORDS = "Anna Berg lives in Bergen"
LINK = "https://files.example.com/dress.zip?X-Amz-Credential=AKIA1&X-Amz-Signature=c4f3"


@pytest.fixture
def redact() -> Redactor:
    redactor = Redactor()
    redactor.hide(["pass/word %", "line one of a key\nline two of a key", "abc"])
    return redactor


@pytest.mark.parametrize(
    ("said", "seen"),
    [
        ("login with pass/word % failed", "login with [hidden] failed"),
        ("GET /login/pass%2Fword%20%25", "GET /login/[hidden]"),
        ("bad key: 'line one of a key\\nline two of a key'", "bad key: '[hidden]\\n[hidden]'"),
        ("abc is too short to be a secret", "abc is too short to be a secret"),
        (f"GET {LINK} 403", "GET https://files.example.com/dress.zip?[hidden] 403"),
        ('"GET /hooks/crm?token=1 HTTP/1.1"', '"GET /hooks/crm?[hidden] HTTP/1.1"'),
        ("postgresql://app:hunter2@db.example.com/app", "postgresql://[hidden]@db.example.com/app"),
        ("Authorization: Bearer ya29.a0AfH6SMBx", "Authorization: Bearer [hidden]"),
        ("{'access_token': 'ya29', 'n': 1}", "{'access_token': '[hidden]', 'n': 1}".replace("'[hidden]'", "[hidden]'")),
        ("to Anna.Berg+x@example.co.uk.", "to [address]."),
        ("to jürgen@bücher.example, and o'hara%40example.com", "to [address], and [address]"),
        ("is this 2 > 1? yes, at 12:00", "is this 2 > 1? yes, at 12:00"),
        ("run r-1 of lost-download: step 3", "run r-1 of lost-download: step 3"),
        ("[connections.x] password: is missing", "[connections.x] password: is missing"),
    ],
)
def test_secrets_links_and_addresses_are_struck_out_and_nothing_else(redact: Redactor, said: str, seen: str) -> None:
    assert redact(said) == seen


def test_redaction_of_a_hostile_line_takes_no_time(redact: Redactor) -> None:
    for hostile in ("a" * 100_000, "a." * 50_000, "://" * 30_000, "?a=" * 30_000, "a@" * 50_000, "secret" * 20_000):
        began = time.process_time()
        redact(hostile)
        assert time.process_time() - began < 2


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What is logged while records are guarded."""
    caught: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = caught.append  # type: ignore[method-assign]
    log = logging.getLogger("test.logs")
    log.propagate = False
    log.addHandler(handler)
    former = logging.getLogRecordFactory()
    logging.setLogRecordFactory(_harmless)
    yield caught
    logging.setLogRecordFactory(former)
    log.removeHandler(handler)


def test_a_record_is_harmless_before_any_handler_sees_it(records: list[logging.LogRecord]) -> None:
    log = logging.getLogger("test.logs")
    log.warning("mail from %s@%s", "nobody.else", "elsewhere.example.org")
    log.warning("%d runs", 3)
    log.warning("%d fits not", "nobody.else@elsewhere.example.org")
    assert [(record.getMessage(), bool(record.args)) for record in records] == [
        ("mail from [address]", False),
        ("3 runs", True),
        ("%d fits not", False),
    ]


def ask() -> None:
    try:
        int(WORDS)
    except ValueError as exc:
        raise Unavailable("connection till does not answer nobody.else@elsewhere.example.org") from exc


def test_an_error_tells_its_kind_and_place_and_only_words_of_ours(records: list[logging.LogRecord]) -> None:
    try:
        ask()
    except Unavailable:
        logging.getLogger("test.logs").exception("It failed")
    line = json.loads(JsonLines("worker").format(records[0]))
    assert line["message"] == "It failed"
    assert line["error"].endswith("orchestrator.errors.Unavailable: connection till does not answer [address]")
    assert "builtins.ValueError\nwhich led to:" in line["error"]
    assert "test_logs.py" in line["error"]
    assert "Bergen" not in logging.Formatter().format(records[0])


def test_of_a_group_each_error_is_told() -> None:
    group = ExceptionGroup("Anna", [KeyError("Berg"), ConnectionRefusedError(111, "Connection refused")])
    said = told(group)
    assert "builtins.KeyError" in said
    assert "builtins.ConnectionRefusedError: Connection refused" in said
    assert "Anna" not in said
    assert "Berg" not in said


def test_a_line_says_what_it_is_about(records: list[logging.LogRecord]) -> None:
    with about(run="r-1", process="lost-download", case=None), about(connection="shop"):
        logging.getLogger("test.logs").error("It failed")
    line = json.loads(JsonLines("worker").format(records[0]))
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "error",
        "service": "worker",
        "logger": "test.logs",
        "message": "It failed",
        "run": "r-1",
        "process": "lost-download",
        "connection": "shop",
    }
    assert fields_now() == {}


def test_without_a_terminal_the_log_is_json_unless_text_is_wanted() -> None:
    assert (form_for(None), form_for(Form.TEXT)) == (Form.JSON, Form.TEXT)


def test_a_line_that_is_repeated_is_written_once_in_a_while_with_how_often_it_came() -> None:
    now = 0.0
    repeat = RepeatFilter(lambda: now)

    def written(message: str, *args: object) -> str:
        record = logging.LogRecord("uvicorn.error", logging.WARNING, "", 0, message, args, None)
        return record.getMessage() if repeat.filter(record) else ""

    said = [written("%s is no request", number) for number in range(1000)] + [written("another line")]
    assert [line for line in said if line] == ["0 is no request", "another line"]
    now = 60.0
    assert written("%s is no request", 7) == "7 is no request (999 more since the last such line)"
    assert written("another line") == "another line"
    assert written("another line") == ""


class Login(Section):
    user: str = "ann"
    password: SecretStr = SecretStr("a password")
    url: SecretStr = SecretStr("postgresql://ann:url-password@db/shop")


def test_the_secrets_of_a_configuration_are_its_secret_fields_and_its_urls_passwords(tmp_path: Path) -> None:
    login = Login()
    assert set(secrets_in(login)) == {"a password", "postgresql://ann:url-password@db/shop", "url-password"}
    (tmp_path / "secrets").mkdir(mode=0o700)
    file = tmp_path / "secrets" / "connections__shop__token"
    file.write_text("a token\n")
    file.chmod(0o600)
    config = tmp_path / "o.toml"
    config.write_text('store.url = "postgresql://app:store-password@db/app"\n[connections.shop]\nconnector = "x"\n')
    assert set(load_settings(config, {}).secrets()) == {"a token", "store-password"}


LAST_WORDS = """
import sys, threading
from orchestrator.logs import Form, configure, hide
hide(["a known secret"])
if sys.argv[1] == "logged":
    configure("worker", Form.JSON)
else:
    from orchestrator.logs import guard
    guard()
def die():
    raise RuntimeError("Anna Berg, a known secret")
thread = threading.Thread(target=die, name="sweep")
thread.start()
thread.join()
import warnings
warnings.warn("a known secret", UserWarning)
die()
"""


@pytest.mark.parametrize("kept", ["logged", "unlogged"])
def test_the_last_words_of_a_process_and_of_its_threads_are_harmless(kept: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LAST_WORDS, kept], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 1
    assert "Thread sweep ends because of an error" in done.stderr
    assert "This process ends because of an error" in done.stderr
    assert done.stderr.count("builtins.RuntimeError") == 2
    assert "Berg" not in done.stderr + done.stdout
    assert "a known secret" not in done.stderr + done.stdout
    if kept == "logged":
        lines = [json.loads(line) for line in done.stderr.splitlines()]
        assert [line["level"] for line in lines] == ["critical", "warning", "critical"]
