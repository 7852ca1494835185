"""Whatever people and Gmail do between two looks: every mail that came in is read, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.sandbox.gmail import GmailBox
from orchestrator.sandbox.gmail.account import Refused
from orchestrator.testing.contracts.mailbox import letter
from orchestrator_connectors.gmail.client import Conversation
from orchestrator_connectors.gmail.mailbox import GmailMailbox, is_incoming
from tests.support.deep import cases

HOUR = 60 * 60
PAGE = 3
LABELS = st.sampled_from([("INBOX",), ("Label_1",), ("SENT",), ("SENT", "INBOX"), ("DRAFT",), ("SPAM",)])
STEPS = st.one_of(
    st.tuples(st.just("arrive"), LABELS),
    st.tuples(st.just("arrive_together"), st.integers(2, 5)),
    st.tuples(st.sampled_from(["archive", "trash", "take_back", "delete"]), st.integers(0, 30)),
    st.tuples(st.just("wait"), st.integers(1, 72)),
    st.tuples(st.sampled_from(["forget", "restart"]), st.just(0)),
    st.tuples(st.just("read"), st.integers(1, 4)),
)


class Direct:
    """The account, without a wire in between; its history comes in small pages."""

    def __init__(self, box: GmailBox) -> None:
        self._box = box

    def profile(self) -> dict[str, Any]:
        return {"historyId": str(self._box.history_id)}

    def messages(self, query: str) -> Iterator[str]:
        return iter([mail.id for mail in self._box.found(query)])

    def history(self, start: int, token: str | None) -> dict[str, Any] | None:
        try:
            records = self._box.changes(start, ["messageAdded", "labelAdded"])
        except Refused:
            return None
        begin = int(token or 0)
        more = {"nextPageToken": str(begin + PAGE)} if begin + PAGE < len(records) else {}
        return {"history": records[begin : begin + PAGE], "historyId": str(self._box.history_id), **more}

    def outline(self, key: str) -> dict[str, Any] | None:
        return self._box.mails[key].outline if key in self._box.mails else None

    def raw(self, key: str) -> bytes | None:
        return self._box.mails[key].raw if key in self._box.mails else None


class World:
    """The account, the reader, and what a reader must and must not have seen."""

    def __init__(self, cursor: str | None) -> None:
        self.now = 1_800_000_000.0
        self.box = GmailBox("support@shop.example", clock=lambda: self.now)
        self.gmail = cast("Conversation", Direct(self.box))
        self.cursor = cursor
        self.seen: list[str] = []
        self.moved: set[str] = set()
        self.excused: set[str] = set()
        """Moved before a look that finds the history forgotten: what is older than a day may stay unseen."""
        self.forgotten = self.behind = False
        self.restart(0)

    def restart(self, _: int) -> None:
        self.mailbox = GmailMailbox(max_size_bytes=10**6, timeout_seconds=60)

    def arrive(self, labels: tuple[str, ...]) -> None:
        self.now += 1
        self.box.deliver(letter(len(self.box.mails)), labels=labels)

    def arrive_together(self, count: int) -> None:
        self.now += 1
        self.box.note_together(*(self.box.deliver(letter(number)).id for number in range(count)))

    def wait(self, hours: int) -> None:
        self.now += hours * HOUR

    def forget(self, _: int) -> None:
        self.box.forget_history()
        self.forgotten = self.behind = True
        self.excused |= self.moved

    def archive(self, choice: int) -> None:
        self._relabel(choice, add=(), remove=("INBOX",))

    def trash(self, choice: int) -> None:
        self._relabel(choice, add=("TRASH",), remove=("INBOX",))

    def take_back(self, choice: int) -> None:
        self._relabel(choice, add=("INBOX",), remove=("SPAM", "TRASH"))

    def delete(self, choice: int) -> None:
        if key := self._chosen(choice):
            self.box.delete(key)

    def read(self, limit: int) -> bool:
        self.behind = False
        page = self.mailbox.page(self.gmail, self.cursor, limit)
        assert len(page.mails) <= limit
        for mail in page.mails:
            assert mail.raw == self.box.mails[mail.key].raw
            assert is_incoming(self.box.mails[mail.key].labels)
        self.seen += [mail.key for mail in page.mails]
        goes_on = bool(page.mails) or page.cursor != self.cursor
        self.cursor = page.cursor
        return goes_on

    def _relabel(self, choice: int, *, add: tuple[str, ...], remove: tuple[str, ...]) -> None:
        if key := self._chosen(choice):
            self.box.relabel(key, add=add, remove=remove)
            self.moved.add(key)
            self.excused |= {key} if self.behind else set()

    def _chosen(self, choice: int) -> str:
        keys = sorted(self.box.mails)
        return keys[choice % len(keys)] if keys else ""


@settings(max_examples=cases(150, 20_000))
@given(st.lists(STEPS, max_size=40), st.booleans())
def test_every_mail_that_came_in_is_read_and_nothing_else(steps: list[tuple[str, Any]], from_beginning: bool) -> None:
    world = World(None)
    if not from_beginning:
        world.cursor = world.mailbox.position(world.gmail)
    for name, argument in steps:
        getattr(world, name)(argument)
    while world.read(3):
        pass
    incoming = {key for key, mail in world.box.mails.items() if is_incoming(mail.labels)}
    assert incoming - world.excused <= set(world.seen)
    unmoved = [key for key in world.seen if key not in world.moved]
    if not world.forgotten and not from_beginning:  # what arrives during a full sync may come by the history as well
        assert unmoved == sorted(set(unmoved)), "each once, in the order of their arrival"
