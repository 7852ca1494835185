"""Nothing that a stranger wrote controls the terminal of whoever reads it, whatever command shows it."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import update

from orchestrator.bindings.guard import ConnectionState
from orchestrator.bootstrap import use
from orchestrator.cli import app
from orchestrator.cli.printable import printable_line, printable_text
from orchestrator.cli.tables import cell
from orchestrator.gateway.accepting import Acceptance, Arrival
from orchestrator.gateway.hooks import hook_of
from orchestrator.record.tables import effect, inbox, run
from tests.support.app_with_fakes import ANNA, CONFIG, STRANGER, Office
from tests.support.console import Console, commands
from tests.support.paths import ROOT

CONTROL = {"Cc", "Cf", "Cs", "Zl", "Zp"}
HOSTILE = "".join(each for each in map(chr, range(1, 0x110000)) if unicodedata.category(each) in CONTROL - {"Cs"})
"""Every control, mark of direction and character that cannot be seen: ESC and the one-byte CSI among them."""
NASTY = f"\x1b]0;owned\x07[link=http://evil.example]see[/link] [bold]{HOSTILE}"
HOOK = """
[webhooks.shop]
process = "lost-download"
verify = "none"
path_secret = "ssssssssssssssssssssssssssssssss"
max_bytes = 10_000
delivery_id = "/id"
input.email = "/email"
input.product = "/product"
"""
WALK: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "plugins": ((),),
    "processes": ((), ("lost-download",), ("{nasty}",)),
    "check": ((),),
    "connections": ((),),
    "connections hooks": (("shop",), ("{nasty}",)),
    "connections authorize": (("{nasty}",),),
    "connections reconcile": (("shop", "{nasty}"),),
    "connectors test": (("{nasty}",),),
    "run": (("lost-download", f"--email={ANNA}", "--product={nasty}"), ("lost-download", "--{nasty}=1"), ("{nasty}",)),
    "runs": ((), ("--customer", "{nasty}")),
    "runs resume": (("{nasty}",),),
    "runs cancel": (("{nasty}",),),
    "decisions": ((),),
    "decisions show": (("{question}",), ("{nasty}",)),
    "decisions answer": (("{question}", "{nasty}"), ("{nasty}", "close")),
    "inbox": ((),),
    "inbox show": (("{mail}",), ("{hook}",), ("{letter}",), ("{nasty}",)),
    "inbox close": (("{nasty}",),),
    "inbox edit": (("{letter}", "--file", "{file}"), ("{nasty}",)),
    "inbox resume": (("{letter}",), ("{nasty}",)),
    "inbox rerun": (("{nasty}",),),
    "inbox discard": (("{nasty}",),),
    "effects": ((),),
    "effects twice": ((), ("--private",)),
    "effects settle": (("{nasty}", "--retry"),),
    "audit tail": (("-n", "500"),),
    "audit show": (("{run}",), ("{run}", "--private"), ("{nasty}",)),
    "audit verify": ((),),
}
"""Each command that shows something of the record, with arguments that make it show something hostile."""
NEW = {"init", "new", "new capability", "new connector", "new process"}
NOT_WALKED = NEW | {"demo", "up", "worker", "gateway", "ready", "connectors", "audit"}
"""They show nothing of the record: they serve, write an author's files, or do nothing without another word."""


class HostileOffice(Office):
    """An office whose mail, webhooks, questions, systems and effects were all written by an attacker."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, CONFIG + HOOK)
        use(self.app)
        self.run, question = self.ask_about(NASTY)
        self.doubt()
        file = folder / "payload.json"
        file.write_text(json.dumps({"email": NASTY}))
        self.names = {
            "mail": self.receive("Hello \x1b[2J\u202e\u200b\x9b[bold]"),
            "hook": self.call({"id": "1", "email": ANNA, "product": NASTY}),
            "letter": self.call({"id": "2", NASTY: NASTY}),
            "question": question,
            "run": self.run,
            "file": str(file),
            "nasty": NASTY,
        }
        self.spoil()

    def ask_about(self, product: str) -> tuple[str, str]:
        definition = self.app.definition("lost-download")
        request = definition.request.model_validate({"email": STRANGER, "product": product})
        self.execute(self.app.open_run(definition, request))
        (waiting,) = self.app.people.open_questions()
        return waiting.run_id, waiting.question_id

    def call(self, payload: dict[str, str]) -> str:
        """Let a webhook be called; what does not fit is a dead letter."""
        settings = self.app.settings.webhooks["shop"]
        definition = self.app.definition("lost-download")
        hook = hook_of("shop", settings, definition)
        body = json.dumps(payload, ensure_ascii=False).encode("utf-8", "surrogatepass")
        fits = definition.request.model_validate(payload_of(payload)) if "email" in payload else None
        arrival = Arrival(
            hook=hook, key=payload["id"], body=body, received_at=self.app.record.clock(), request=fits, problem=NASTY
        )
        (accepted,) = Acceptance(self.app.record, self.app.runs).accept([arrival])
        return accepted.delivery

    def spoil(self) -> None:
        """Write the attacker's words into every text that lists show."""
        self.app.health.report("shop", ConnectionState.DOWN, NASTY)
        self.app.connections.get("shop").check = lambda: NASTY
        with self.app.record.store.write() as tx:
            tx.execute(update(run).values(reason=NASTY))
            tx.execute(update(inbox).values(note=NASTY))
            tx.execute(update(effect).values(operation=NASTY))


def payload_of(payload: dict[str, str]) -> dict[str, str]:
    return {name: payload[name] for name in ("email", "product")}


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HostileOffice]:
    opened = HostileOffice(tmp_path_factory.mktemp("hostile"))
    yield opened
    opened.app.record.store.close()


@pytest.fixture
def console(office: HostileOffice, capsys: pytest.CaptureFixture[str]) -> Console:
    return Console(capsys)


def unseen(text: str) -> set[str]:
    return {each for each in text if unicodedata.category(each) in CONTROL} - {"\n", "\t"}


def test_every_command_is_walked() -> None:
    assert {" ".join(path) for path in commands(app)} == WALK.keys() | NOT_WALKED


@pytest.mark.parametrize("columns", ["80", ""], ids=["terminal", "pipe"])
@pytest.mark.parametrize("command", WALK)
def test_no_command_lets_a_strangers_characters_reach_the_terminal(
    office: HostileOffice, console: Console, monkeypatch: pytest.MonkeyPatch, command: str, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for arguments in WALK[command]:
        words = [*command.split(), *(each.format(**office.names) for each in arguments)]
        said = console(*words)
        assert said.out + said.err
        assert unseen(said.out + said.err) == set(), words[:3]


@pytest.mark.parametrize("command", ["decisions", "runs", "inbox", "effects", "connections", "check", "audit tail"])
def test_json_is_plain_ascii_and_says_what_was_written(office: HostileOffice, console: Console, command: str) -> None:
    said = console(*command.split(), "--json")
    assert said.json
    assert re.fullmatch(r"[\n -~]+", said.out)


def test_the_reason_of_a_run_is_whole_in_json_and_no_markup_in_a_table(office: HostileOffice, console: Console) -> None:
    assert NASTY in [row["reason"] for row in console("runs", "--json").json]
    assert "[link=http://evil.example]see[/link] [bold]" in console("runs").out


def test_a_mail_is_shown_with_its_lines_and_without_its_controls(office: HostileOffice, console: Console) -> None:
    shown = console("decisions", "show", office.names["question"]).out
    assert "They say: \\x1b]0;owned\\x07[link=http://evil.example]see" in shown


@given(st.text(st.characters()))
def test_what_is_printed_holds_nothing_that_cannot_be_seen(text: str) -> None:
    assert unseen(printable_line(text) + cell(text) + cell([text])) == set()
    assert unseen(printable_text(text)) == set()
    assert not {"\n", "\t"} & set(printable_line(text))


@given(st.text(st.characters(exclude_categories=CONTROL)))
def test_what_can_be_seen_is_printed_as_it_is(text: str) -> None:
    assert (printable_line(text), printable_text(f"{text}\r\n\t{text}")) == (text, f"{text}\n\t{text}")


def test_nothing_prints_but_through_the_one_place() -> None:
    """``inbox show --raw`` writes a mail byte for byte, and never to a terminal."""
    writes = re.compile(r"sys\.std(out|err)\.(buffer\.)?write|\bprint\(|Console\(")
    folder = ROOT / "orchestrator" / "cli"
    found = {path.name for path in folder.glob("*.py") if writes.search(path.read_text())}
    assert found == {"output.py", "tables.py", "inbox.py"}
