"""Whatever folder a command is started in, it is the record of its configuration that it finds, or none."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, FilePath

from flows.lost_download import lost_download
from orchestrator.bindings import connect
from orchestrator.bootstrap import use
from orchestrator.config_file import CONFIG_VARIABLE
from orchestrator.errors import ConfigurationError
from orchestrator.plugins.host import PluginHost
from orchestrator.record.record import open_record
from orchestrator.record.store import Store
from orchestrator.settings import Settings
from orchestrator.settings.section import Section
from tests.support.configurations import load
from tests.support.console import Console, Said
from tests.support.plugins import SHELF, Shelf, ShelfSettings, offering

READING = [
    ("runs",),
    ("runs", "resume", "r-1"),
    ("runs", "cancel", "r-1"),
    ("audit", "tail"),
    ("audit", "show", "r-1"),
    ("audit", "verify"),
    ("effects",),
    ("decisions",),
    ("decisions", "show", "q-1"),
    ("inbox",),
    ("inbox", "show", "d-1"),
    ("connections",),
]


@pytest.fixture
def console(capsys: pytest.CaptureFixture[str]) -> Iterator[Console]:
    """The command line in this process, with a configuration of its own."""
    use(None)
    yield Console(capsys)
    use(None)


def config(folder: Path, text: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "orchestrator.toml").write_text(text)
    return folder / "orchestrator.toml"


def called(folder: Path, *arguments: str, **environment: str) -> Said:
    """Call the command line from a folder."""
    done = subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **environment},
        timeout=120,
    )
    return Said(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("command", READING, ids=" ".join)
def test_a_command_that_looks_makes_neither_a_record_nor_a_key(
    tmp_path: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(config(tmp_path / "elsewhere")))
    before = sorted(tmp_path.rglob("*"))
    said = console(*command)
    assert said.code == 1
    assert f"there is no {tmp_path}/elsewhere/data/orchestrator.db; this command looks at a record" in said.err
    assert "--config" in said.err
    assert sorted(tmp_path.rglob("*")) == before


def test_a_record_without_its_key_is_no_reason_to_make_another_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, console: Console
) -> None:
    monkeypatch.setenv(CONFIG_VARIABLE, str(config(tmp_path)))
    (tmp_path / "data").mkdir()
    Store(f"sqlite:///{tmp_path}/data/orchestrator.db").close()
    assert f"[store] key_file: there is no {tmp_path}/data/keys/kek; " in console("runs").err
    assert not (tmp_path / "data" / "keys").exists()


def test_an_empty_database_is_no_record_either(empty_url: str, tmp_path: Path) -> None:
    if empty_url.startswith("sqlite"):
        (tmp_path / "record.db").touch()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"\[store\] url: there is no record at "):
            open_record(empty_url, tmp_path / "key", create=False)


def test_the_record_of_another_folder_is_found_from_everywhere(tmp_path: Path) -> None:
    shop, here = config(tmp_path / "shop"), tmp_path / "here"
    here.mkdir()
    open_record(f"sqlite:///{shop.parent}/data/orchestrator.db", shop.parent / "data" / "keys" / "kek").store.close()
    for said in (
        called(here, "--config", "../shop/orchestrator.toml", "runs"),
        called(here, "runs", ORCHESTRATOR_CONFIG=str(shop)),
        called(shop.parent, "runs"),
    ):
        assert said == (0, "No runs yet.\n", "")
    assert called(here, "--config", "../shop/orchestrator.toml", "runs", "--state", "parked").out == "No such run.\n"
    assert list(here.iterdir()) == []


class Below(BaseModel, frozen=True, extra="forbid"):
    certificate: FilePath | None = None


class Placed(BaseModel, frozen=True, extra="forbid"):
    token_file: Path = Path("tokens/x")
    url: str = ""
    below: Below | None = None
    folders: tuple[Path, ...] = ()


class Given(Shelf):
    """Keeps the settings that it was given."""

    def __init__(self, settings: Any) -> None:
        super().__init__(ShelfSettings())
        self.settings = settings


PATHS = """
store.url = "sqlite:///records/one.db"
service.data = "state"

[connections.x]
connector = "placed"
url = "sqlite:///file:shop.db?mode=ro&uri=true"

[connections.y]
connector = "placed"
below.certificate = "ca.pem"
folders = ["a", "/b"]
"""


def test_every_relative_path_counts_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    settings = load(tmp_path, PATHS, STORE__KEY_FILE="keys/one", CONNECTIONS__X__TOKEN_FILE="tokens/y")
    placed = replace(SHELF, name="placed", settings=Placed, build=Given)
    connections = connect(settings, PluginHost(extra={"acme": offering(placed)}))
    assert settings.store.url == f"sqlite:///{tmp_path}/records/one.db"
    assert settings.store.key_file == tmp_path / "keys" / "one"
    assert settings.service.data == tmp_path / "state"
    database = f"sqlite:///file:{tmp_path}/shop.db?mode=ro&uri=true"
    assert connections.get("x").settings == Placed(token_file=tmp_path / "tokens" / "y", url=database)
    assert connections.get("y").settings == Placed(
        token_file=tmp_path / "tokens" / "x",
        below=Below(certificate=tmp_path / "ca.pem"),
        folders=(tmp_path / "a", Path("/b")),
    )


def test_a_folder_of_secrets_counts_from_the_file_too(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "connections__x__url").write_text("mine")
    (tmp_path / "hidden" / "connections__x__url").chmod(0o600)
    assert load(tmp_path, SECRETS_DIR="hidden").connections == {"x": {"url": "mine"}}


def test_what_is_absolute_or_not_of_sqlite_stays_as_it_is(tmp_path: Path) -> None:
    assert load(tmp_path, 'store.url = "sqlite:////r.db"').store.url == "sqlite:////r.db"
    assert load(tmp_path, 'store.url = "postgresql+psycopg://h/n"').store.url == "postgresql+psycopg://h/n"


def test_a_deployment_says_where_the_configuration_lies_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prefect's process worker executes it in any folder: it is the same record all the same."""
    monkeypatch.setenv(CONFIG_VARIABLE, str(config(tmp_path)))
    env = {CONFIG_VARIABLE: str(tmp_path / "orchestrator.toml")}
    assert lost_download.to_deployment("mine").job_variables == {"env": env}
    chosen = lost_download.to_deployment("mine", job_variables={"image": "i", "env": {CONFIG_VARIABLE: "/etc/o.toml"}})
    assert chosen.job_variables == {"image": "i", "env": {CONFIG_VARIABLE: "/etc/o.toml"}}
    monkeypatch.setenv(CONFIG_VARIABLE, str(tmp_path / "none.toml"))
    assert lost_download.to_deployment("mine").job_variables == {}


def test_default_paths_are_in_sections_alone_that_need_not_be_written() -> None:
    """They are filled in beside the file's: a section that a variable alone gives would not get them."""
    sections = Section.__subclasses__()
    having = {each for each in sections if any(isinstance(f.default, Path) for f in each.model_fields.values())}
    assert having
    assert having <= {type(field.default) for field in Settings.model_fields.values()}
