"""A tier is what the tests show: whoever leaves out, changes, skips or excuses a test is found."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.capabilities import Mailbox, Notifier, OrderRecords
from orchestrator.errors import ConfigurationError
from orchestrator.kit.examining import examine, installed_connector, read_notes
from orchestrator.kit.tiers import Evidence, TestNote, Tier, rulings, tier_of
from orchestrator.plugins import Connector
from orchestrator.plugins.connector import S
from orchestrator.plugins.host import PluginHost
from orchestrator.testing.contracts.faults import FaultsContract
from orchestrator.testing.contracts.notices import NotifierContract
from orchestrator.testing.measuring import NO_EFFECT
from orchestrator.testing.plugin import promised_by
from tests.support.deep import DEEP
from tests.support.paths import ROOT, TESTS

PAGE = (ROOT / "docs" / "writing-a-connector.md").read_text()
OURS = PAGE.partition("The connectors in this repository")[2]
ROW = re.compile(r"^\| (`[^|]*`) \| (silver|gold|platinum) \|", re.MULTILINE)
DOCUMENTED = {name.strip("`"): tier for names, tier in ROW.findall(OURS) for name in names.split(", ")}
SUITES = {
    "dropbox": "dropbox/test_dropbox_contract.py",
    "slack": "notices/test_notices.py",
    "webhook": "notices/test_notices.py",
    "gmail": "gmail/test_gmail_contract.py",
    "keap": "keap/test_keap_contract.py",
    "mail": "mail/test_mail_contract.py",
    "s3": "s3/test_s3_contract.py",
    "shop-sql": "shop_sql/test_shop_sql_contract.py",
}
PROMISED = tuple(promised_by(NotifierContract))
WAIT = "test_the_wait_that_the_system_asks_for_is_handed_on"
NAMES = {
    "NotifierContract": PROMISED,
    "FaultsContract": ("test_silence", WAIT),
    "ConnectorHygieneContract": ("test_secret",),
}
WHOLE = {contract: dict.fromkeys(tests, "passed") for contract, tests in NAMES.items()}


def note(
    contract: str,
    test: str,
    outcome: str,
    changed: tuple[str, ...] = (),
    reason: str = "no such call",
    *,
    untouched: bool = False,
) -> TestNote:
    return TestNote(
        connector="it",
        contract=contract,
        test_class="TestIt",
        test=test,
        outcome=outcome,
        reason=reason,
        against="stand-in",
        untouched=untouched,
        promised=NAMES[contract],
        changed=changed,
        given=("change",),
    )


def notes(*without: str, **outcomes: str) -> list[TestNote]:
    return [
        note(contract, test, outcomes.get(test, outcome))
        for contract, tests in WHOLE.items()
        if contract not in without
        for test, outcome in tests.items()
        if test not in without
    ]


def tier(seen: list[TestNote], provides: tuple[type, ...] = (Notifier,)) -> Tier:
    return tier_of(rulings(Evidence(provides=provides, notes=seen)))


def test_what_a_protocol_has_no_word_for_is_a_test_of_the_contract() -> None:
    assert WAIT in promised_by(FaultsContract)


FIRST = PROMISED[0]


@pytest.mark.parametrize(
    ("seen", "reached"),
    [
        (notes(), Tier.PLATINUM),
        (notes("ConnectorHygieneContract"), Tier.GOLD),
        (notes(test_secret="failed"), Tier.GOLD),
        (notes(test_secret="skipped"), Tier.GOLD),
        (notes(test_secret="deviates"), Tier.GOLD),
        (notes(**{WAIT: "deviates"}), Tier.GOLD),
        (notes("ConnectorHygieneContract", **{WAIT: "deviates"}), Tier.GOLD),
        (notes(**{WAIT: "failed"}), Tier.SILVER),
        (notes(**{WAIT: "skipped"}), Tier.SILVER),
        (notes(WAIT), Tier.SILVER),
        (notes("FaultsContract"), Tier.SILVER),
        (notes(test_silence="failed"), Tier.SILVER),
        (notes(test_silence="deviates"), Tier.SILVER),
        ([*notes("test_silence"), note("FaultsContract", "test_silence", "skipped", reason=NO_EFFECT)], Tier.SILVER),
        ([*notes(), note("FaultsContract", "test_silence", "skipped", reason=NO_EFFECT)], Tier.PLATINUM),
        ([*notes(FIRST), note("NotifierContract", FIRST, "passed", untouched=True)], Tier.BRONZE),
        (notes(**{FIRST: "deviates"}), Tier.BRONZE),
        (notes(**{FIRST: "failed"}), Tier.NONE),
        (notes(**{FIRST: "skipped"}), Tier.NONE),
        (notes(FIRST), Tier.NONE),
        ([*notes(), note("NotifierContract", FIRST, "passed", changed=(FIRST,))], Tier.NONE),
        (notes("NotifierContract"), Tier.NONE),
        ([], Tier.NONE),
    ],
)
def test_a_tier_is_reached_if_its_rules_and_those_below_are_kept(seen: list[TestNote], reached: Tier) -> None:
    assert tier(seen) is reached


def test_a_half_about_effects_that_is_left_out_is_named() -> None:
    seen = [*notes("test_silence"), note("FaultsContract", "test_silence", "skipped", reason=NO_EFFECT)]
    judged = {each.rule.name: each.problems for each in rulings(Evidence(provides=(Notifier,), notes=seen))}
    left_out = "FaultsContract: test_silence was left out, but the connector has effects; give the fixture change"
    assert judged["faults-survived"] == (left_out,)
    without = {each.rule.name: each.problems for each in rulings(Evidence(provides=(OrderRecords,), notes=seen))}
    assert without["faults-survived"] == ()


def test_a_capability_whose_contract_nobody_ran_is_noticed() -> None:
    judged = rulings(Evidence(provides=(Notifier, Mailbox), notes=notes()))
    assert tier_of(judged) is Tier.NONE
    assert judged[0].problems == ('no test class inherits MailboxContract with connector = "..."',)


SUITE = """
import pytest
from orchestrator.testing.fake_backends import FakeReaders
from orchestrator.testing.contracts.faults import FaultsContract
from orchestrator.testing.contracts.notices import NotifierContract
from orchestrator.testing.notices import FakeNotifier
from orchestrator.testing.stub_server import StubServer


class Kept(NotifierContract):
    @pytest.fixture
    def notifier(self):
        return FakeNotifier()

    @pytest.fixture
    def readers(self, notifier):
        return FakeReaders(notifier)


class TestWhole(Kept):
    connector = "whole"


class TestExcused(Kept):
    connector = "excused"
    deviations = {"test_a_notice_is_read_word_for_word": "it is shortened"}

    @pytest.fixture
    def readers(self, notifier):
        class Short(FakeReaders):
            def told(self):
                return [text[:3] for text in super().told()]

        return Short(notifier)


class TestExcusedForNothing(Kept):
    connector = "excused-for-nothing"
    deviations = {"test_a_notice_is_read_word_for_word": "it is shortened"}


class TestSilenced(Kept):
    connector = "silenced"
    test_a_notice_is_read_word_for_word = None


class TestSoftened(Kept):
    connector = "softened"

    def test_a_notice_is_read_word_for_word(self):
        pass


class TestSkipped(Kept):
    connector = "skipped"

    @pytest.fixture
    def notifier(self):
        pytest.skip("not today")


class TestNamesNobody(Kept):
    pass


class TestReal(Kept):
    connector = "real"
    against = "real"


class TestReads(FaultsContract):
    connector = "reads"

    @pytest.fixture
    def faults(self):
        class Refusing:
            def __getattr__(self, name):
                return lambda *_, **__: None

        return Refusing()

    @pytest.fixture
    def ask(self):
        return lambda: None


class TestUntouched(Kept):
    connector = "untouched"

    @pytest.fixture
    def vendor(self, notifier):
        return StubServer(notifier)

    @pytest.fixture
    def readers(self, notifier, vendor):
        return FakeReaders(notifier)


class TestTouched(TestUntouched):
    connector = "touched"

    @pytest.fixture
    def vendor(self, notifier):
        class Vendor(StubServer):
            def answer(self, method, path, given):
                return 404, None

        return Vendor(notifier)


def test_something_else():
    raise AssertionError("runs without --contracts alone")
"""


def connector(name: str) -> Connector[S]:
    known = installed_connector("slack", PluginHost())
    return Connector(name=name, provides=known.provides, settings=known.settings, build=known.build)


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("suite") / "test_suite.py"
    file.write_text(SUITE)
    return file


def pytest_on(suite: Path, *options: str) -> str:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, str(suite)]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


@pytest.fixture(scope="module")
def noted(suite: Path) -> list[TestNote]:
    """What became of the contracts of all connectors, with several processes at work."""
    file = suite.parent / "notes.json"
    pytest_on(suite, f"--contracts={file}", "-n", "2")
    return read_notes(file)


@pytest.mark.parametrize(
    ("name", "reached"),
    [
        ("whole", Tier.SILVER),
        ("touched", Tier.SILVER),
        ("untouched", Tier.BRONZE),
        ("excused", Tier.BRONZE),
        ("excused-for-nothing", Tier.NONE),
        ("silenced", Tier.NONE),
        ("softened", Tier.NONE),
        ("skipped", Tier.NONE),
    ],
)
def test_pytest_tells_what_became_of_a_connectors_contracts(noted: list[TestNote], name: str, reached: Tier) -> None:
    assert tier([note for note in noted if note.connector == name]) is reached


def test_the_names_of_what_was_changed_are_told(noted: list[TestNote]) -> None:
    (changed,) = {note.changed for note in noted if note.connector == "silenced"}
    assert changed == ("test_a_notice_is_read_word_for_word",)


def test_contracts_run_against_one_kind_of_counterpart_alone(suite: Path) -> None:
    evidence, _ = examine(connector("real"), suite, "real")
    assert {(each.connector, each.against) for each in evidence.notes} == {("real", "real")}
    with pytest.raises(ConfigurationError, match='against a stand-in; write connector = "real" in each class'):
        examine(connector("real"), suite)
    with pytest.raises(ConfigurationError, match='"whole" and against = "sandbox" in each class'):
        examine(connector("whole"), suite, "sandbox")


def test_what_contracts_cannot_be_run_against_is_named(tmp_path: Path) -> None:
    (tmp_path / "test_odd.py").write_text(SUITE.replace('against = "real"', 'against = "production"'))
    with pytest.raises(ConfigurationError, match="against = 'production' is none of stand-in, sandbox, real"):
        examine(connector("whole"), tmp_path)


def test_the_half_about_effects_is_skipped_with_its_reason_where_there_is_no_change(noted: list[TestNote]) -> None:
    skipped = {each.test for each in noted if each.connector == "reads" and each.outcome == "skipped"}
    assert {each.reason for each in noted if each.connector == "reads" and each.outcome == "skipped"} == {NO_EFFECT}
    assert {name.partition("_a_change")[0] for name in skipped} == {"test"}


def test_without_our_options_pytest_runs_everything_and_knows_deviations(suite: Path) -> None:
    told = pytest_on(suite, "-k", "not Reads").splitlines()[-1]
    assert told.startswith("2 failed,"), told


def test_a_connector_without_contracts_is_told_what_to_write(suite: Path) -> None:
    with pytest.raises(ConfigurationError, match='write connector = "nobody" in each class'):
        examine(connector("nobody"), suite)


def test_tests_that_cannot_be_run_are_shown(tmp_path: Path) -> None:
    (tmp_path / "test_broken.py").write_text("import no_such_module")
    with pytest.raises(ConfigurationError, match="no_such_module"):
        examine(connector("slack"), tmp_path)


def test_a_connector_that_is_not_installed_is_named() -> None:
    with pytest.raises(ConfigurationError, match='no connector "slak" is installed; did you mean "slack"'):
        installed_connector("slak", PluginHost())


def test_every_connector_of_ours_has_a_documented_tier() -> None:
    assert set(DOCUMENTED) == set(SUITES) == set(PluginHost().connectors())


@pytest.mark.parametrize("name", SUITES if DEEP else ["webhook"])
def test_a_connector_of_ours_reaches_the_tier_that_is_documented(name: str) -> None:
    evidence, _ = examine(installed_connector(name, PluginHost()), TESTS / "connectors" / SUITES[name])
    assert tier_of(rulings(evidence)) == DOCUMENTED[name]
