"""Who wrote a mail is proven by our own mail server alone, in the topmost header with its name."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.intake.authentication import Authentication, authentication_of

OURS = "mx.shop.example"
ANN = "From: Ann <ann@example.com>"
UNPROVEN = Authentication()
PASSED = "dmarc=pass header.from=example.com"


def result(value: str, *, by: str = OURS) -> str:
    return f"Authentication-Results: {by}; {value}"


def read(*lines: str, authserv_id: str | None = OURS) -> Authentication:
    return authentication_of("\r\n".join([*lines, "", "hello", ""]).encode(), authserv_id)


def test_what_our_server_proved_is_known_with_its_evidence() -> None:
    header = (
        "mx.google.com;\r\n       dkim=pass header.i=@example.com header.s=20230601 header.b=abcd;\r\n"
        "       spf=pass (google.com: domain of ann@example.com designates 192.0.2.1 as permitted sender) "
        "smtp.mailfrom=ann@example.com;\r\n       dmarc=pass (p=NONE dis=NONE) header.from=example.com;\r\n"
        "       dara=pass header.i=@shop.example"
    )
    found = read(f"Authentication-Results: {header}", ANN, authserv_id="MX.google.com")
    assert found == Authentication(results={"dmarc": "pass", "dkim": "pass", "spf": "pass"}, proof="dmarc=pass")


@pytest.mark.parametrize(
    ("value", "proof"),
    [
        (PASSED, "dmarc=pass"),
        ("DMARC=Pass header.from=Example.COM", "dmarc=pass"),
        ("dmarc=none header.from=example.com; dkim=pass header.d=example.com", "dkim=pass"),
        ("dkim=fail header.d=other.example; dkim=pass header.i=@example.com", "dkim=pass"),
        ("dmarc=fail (p=none dis=none) header.from=example.com; dkim=pass header.d=other.example", ""),
        ("dmarc=fail header.from=example.com; dkim=pass header.d=example.com", ""),
        ("dmarc=bestguesspass action=none header.from=example.com", ""),
        ("dmarc=temperror header.from=example.com", ""),
        ("dmarc=pass header.from=other.example", ""),
        ("dmarc=pass", ""),
        ("dkim=pass header.d=other.example", ""),
        ("dkim=pass header.d=com", ""),
        ("dkim=pass header.i=ann@example.com.other.example", ""),
        ("dkim=fail header.d=example.com", ""),
        ("spf=pass smtp.mailfrom=ann@example.com", ""),
        ("none", ""),
        ('spf=pass smtp.mailfrom="x; dmarc=pass header.from=example.com"@other.example', ""),
        ("spf=pass (x; dmarc=pass header.from=example.com) smtp.mailfrom=a@other.example", ""),
        ("dmarc=pass header.from=example.com; what is this", ""),
    ],
)
def test_only_what_speaks_of_the_writers_domain_proves_it(value: str, proof: str) -> None:
    assert read(result(value), ANN).proof == proof


@pytest.mark.parametrize(
    "headers",
    [
        [result("dmarc=fail header.from=example.com"), result(PASSED)],
        [result("none"), result(PASSED)],
        [result("what is this"), result(PASSED)],
        [result(PASSED, by="mx.attacker.example")],
        [f"Authentication-Results: {OURS}.attacker.example; {PASSED}"],
        [f"Authentication-Results: ({OURS}) mx.attacker.example; {PASSED}"],
        [f"X-Authentication-Results: {OURS}; {PASSED}", f"ARC-Authentication-Results: i=1; {OURS}; {PASSED}"],
    ],
)
def test_what_the_sender_may_have_written_proves_nothing(headers: list[str]) -> None:
    assert read(*headers, ANN).proof == ""


def test_headers_of_other_servers_above_are_passed_over() -> None:
    assert read(result("none", by="filter.shop.example"), result(PASSED), ANN).proof == "dmarc=pass"
    assert read(f"Authentication-Results: {OURS} 1; {PASSED}", ANN).proof == "dmarc=pass"


@pytest.mark.parametrize("sender", ["From: a@example.com, b@example.com", f"{ANN}\r\n{ANN}", "To: a@b.example"])
def test_who_is_not_certain_is_not_proven(sender: str) -> None:
    assert read(result(PASSED), sender).proof == ""


def test_without_our_servers_name_nobody_is_proven() -> None:
    assert read(result(PASSED), ANN, authserv_id=None) == UNPROVEN
    assert read(ANN) == UNPROVEN


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_no_mail_breaks_the_reader(value: bytes, rest: bytes) -> None:
    for raw in (value, b"Authentication-Results: mx.shop.example; " + value + b"\r\n" + ANN.encode() + rest):
        assert authentication_of(raw, OURS).proof in ("", "dmarc=pass", "dkim=pass")
