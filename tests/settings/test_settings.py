from __future__ import annotations

from pathlib import Path

import pytest

from orchestrator.schedule import Schedule
from orchestrator.settings import (
    MailboxSettings,
    PluginSettings,
    ProcessSettings,
    ScheduleSettings,
    Settings,
    StoreSettings,
    load_settings,
)
from tests.support.configurations import load


def test_an_empty_file_is_a_whole_configuration(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    places = {
        "store": {"url": f"sqlite:///{tmp_path}/data/orchestrator.db", "key_file": tmp_path / "data/keys/kek"},
        "service": {"data": tmp_path / "data", "stop_seconds": 45},
        "plugins": {"modules": (), "folder": tmp_path, "disabled": ()},
    }
    assert loaded.model_dump() == Settings().model_dump() | places
    assert (loaded.prefect.api_url, loaded.prefect.work_pool) == ("http://127.0.0.1:4200/api", "orchestrator")


def test_every_section_is_read(tmp_path: Path) -> None:
    text = """
    connections.files = {connector = "s3", bucket = "b"}
    bindings.file_links = "files"
    processes.report.bindings.mailer = "mail"
    processes.report.schedule = {cron = "0 8 * * 1-5", timezone = "Europe/Berlin", request = {month = "last"}}
    processes.other.enabled = false
    mailboxes.support = {connection = "mail", process = "support-inbox", poll_seconds = 5}
    plugins.disabled = ["acme"]
    """
    loaded = load(tmp_path, text)
    schedule = ScheduleSettings(cron="0 8 * * 1-5", timezone="Europe/Berlin", request={"month": "last"})
    assert loaded.connections == {"files": {"connector": "s3", "bucket": "b"}}
    assert loaded.bindings == {"file_links": "files"}
    assert loaded.processes == {
        "report": ProcessSettings(bindings={"mailer": "mail"}, schedule=schedule),
        "other": ProcessSettings(enabled=False),
    }
    assert loaded.mailboxes == {
        "support": MailboxSettings(connection="mail", process="support-inbox", poll_seconds=5, from_beginning=False)
    }
    assert loaded.plugins == PluginSettings(folder=tmp_path, disabled=("acme",))


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="frozen"):
        load(tmp_path).bindings = {}  # type: ignore[misc]


def test_a_variable_merges_into_the_section_of_the_file(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        '[connections.shop]\nconnector = "shop-sql"\nurl = "sqlite:///file.db"\nquery = "SELECT 1"',
        CONNECTIONS__SHOP__URL="sqlite:///variable.db",
    )
    assert loaded.connections == {
        "shop": {"connector": "shop-sql", "url": f"sqlite:///{tmp_path}/variable.db", "query": "SELECT 1"}
    }


def test_variables_merge_below_sections_of_sections(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        '[connections.support_mail.smtp]\nhost = "127.0.0.1"\nport = 2525',
        CONNECTIONS__SUPPORT_MAIL__SMTP__PORT="4000",
        CONNECTIONS__SUPPORT_MAIL__IMAP__PORT="4001",
    )
    assert loaded.connections["support_mail"] == {
        "smtp": {"host": "127.0.0.1", "port": "4000"},
        "imap": {"port": "4001"},
    }


def test_variables_go_before_secrets_and_secrets_before_the_file(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        '[connections.shop]\na = "file"\nb = "file"\nc = "file"',
        {"connections__shop__b": "secret", "connections__shop__c": "secret"},
        CONNECTIONS__SHOP__C="variable",
    )
    assert loaded.connections["shop"] == {"a": "file", "b": "secret", "c": "variable"}


@pytest.mark.parametrize("text", ["12345678", "0123", "1e9", "true", "null", '{"type": "service_account"}', "[1", "x "])
def test_what_a_variable_or_secret_holds_stays_text(tmp_path: Path, text: str) -> None:
    loaded = load(tmp_path, "", {"connections__a__token": f"{text}\n"}, CONNECTIONS__B__TOKEN=text)
    assert loaded.connections == {"a": {"token": text}, "b": {"token": text}}


def test_variables_fit_numbers_switches_and_lists(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        "mailboxes.support = {connection = 'm', process = 'p'}\nprocesses.monthly-report.schedule.cron = '0 8 * * *'",
        MAILBOXES__SUPPORT__POLL_SECONDS="0.5",
        MAILBOXES__SUPPORT__FROM_BEGINNING="true",
        PLUGINS__DISABLED='["acme", "apex"]',
        PROCESSES__MONTHLY_REPORT__SCHEDULE__REQUEST='{"month": "last"}',
    )
    support, schedule = loaded.mailboxes["support"], loaded.processes["monthly-report"].schedule
    assert (support.poll_seconds, support.from_beginning) == (0.5, True)
    assert loaded.plugins.disabled == ("acme", "apex")
    assert schedule == ScheduleSettings(cron="0 8 * * *", request={"month": "last"})


def test_another_directory_of_secrets_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    secret = tmp_path / "elsewhere" / "store__url"
    secret.write_text("sqlite:///elsewhere.db")
    secret.chmod(0o600)
    loaded = load(tmp_path, "", {"store__url": "sqlite:///beside.db"}, SECRETS_DIR=str(tmp_path / "elsewhere"))
    assert loaded.store.url == f"sqlite:///{tmp_path}/elsewhere.db"


def test_what_else_lies_among_the_secrets_or_in_the_environment_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "secrets" / "keys").mkdir(parents=True)
    loaded = load(tmp_path, "", {"README": "?", ".store__url": "?", "kek": "?"}, CONFIG="o.toml", HOME="/")
    assert loaded.store == load(tmp_path).store


def test_settings_made_by_hand_read_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORE", '{"url": "sqlite:///environment.db"}')
    monkeypatch.setenv("ORCHESTRATOR_STORE__URL", "sqlite:///environment.db")
    assert Settings(bindings={"mailer": "mail"}).store == StoreSettings()


def test_the_environment_of_this_process_is_read_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "o.toml").touch()
    monkeypatch.setenv("ORCHESTRATOR_STORE__URL", "sqlite:///environment.db")
    assert load_settings(tmp_path / "o.toml").store.url == f"sqlite:///{tmp_path}/environment.db"


def test_no_credential_is_shown(tmp_path: Path) -> None:
    loaded = load(
        tmp_path,
        '[store]\nurl = "postgresql://me:hunter2hunter2@db/record"',
        {"connections__shop__password": "hunter2hunter2"},
    )
    assert "hunter2" not in repr(loaded) + str(loaded)


def test_where_a_setting_stands_can_be_asked(tmp_path: Path) -> None:
    loaded = load(tmp_path, "[connections.shop]\nurl = 'x'", CONNECTIONS__SHOP__PASSWORD="x")
    assert loaded.where("connections", "shop", "url") == f"{tmp_path}/o.toml: [connections.shop] url"
    assert loaded.where("connections", "shop", "password") == (
        "environment variable ORCHESTRATOR_CONNECTIONS__SHOP__PASSWORD: [connections.shop] password"
    )


DECLARED = Schedule(cron="0 8 * * *", timezone="Europe/Berlin", request={"month": "last"})


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("", DECLARED),
        ("enabled = false", None),
        ("timezone = 'UTC'", Schedule(cron="0 8 * * *", timezone="UTC", request={"month": "last"})),
        ("every_seconds = 60", Schedule(every_seconds=60, timezone="Europe/Berlin", request={"month": "last"})),
        (
            "rrule = 'FREQ=WEEKLY'\nrequest = {month = 'this'}",
            Schedule(rrule="FREQ=WEEKLY", timezone="Europe/Berlin", request={"month": "this"}),
        ),
    ],
    ids=["nothing", "off", "another zone", "another rhythm", "another rhythm and request"],
)
def test_the_configuration_changes_what_a_process_declares(
    tmp_path: Path, written: str, expected: Schedule | None
) -> None:
    settings = load(tmp_path, f"[processes.report.schedule]\n{written}" if written else "")
    assert settings.schedule_of("report", DECLARED) == expected


def test_a_process_that_declares_no_schedule_is_given_one_by_the_configuration(tmp_path: Path) -> None:
    settings = load(tmp_path, "[processes.report.schedule]\ncron = '0 8 * * *'")
    assert settings.schedule_of("report", None) == Schedule(cron="0 8 * * *")
    assert settings.schedule_of("another", None) is None
