from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hubspot.utils.signature import Signature
from hypothesis import given, settings
from hypothesis import strategies as st
from slack_sdk.signature import Clock, SignatureVerifier
from standardwebhooks import Webhook, WebhookVerificationError
from stripe import SignatureVerificationError, WebhookSignature

from orchestrator.gateway.verification import Call, Proof, Verdict, verify
from orchestrator.settings.webhooks import HmacSettings, Scheme
from orchestrator.toolkit.standard_webhooks import signing_key
from tests.support.deep import cases
from tests.support.webhooks import KEYS, OLD_SECRET, PLAIN, SECRET, SIGNED, URL, key, proof, signed

NOW = 1_800_000_000.0
BODY = '{"id": "evt_1", "name": "Jürgen"}'.encode()
TIMED = tuple(scheme for scheme in SIGNED if scheme not in ("github", "hmac"))


def call(headers: dict[str, str], body: bytes = BODY, *, method: bytes = b"POST", url: str = URL) -> Call:
    raw = {name.lower().encode(): value.encode() for name, value in headers.items()}
    return Call(method=method, url=url.encode(), headers=raw, body=body)


def judged(scheme: Scheme, headers: dict[str, str], body: bytes = BODY, *, now: float = NOW) -> Verdict:
    return verify(proof(scheme), call(headers, body), now)


@pytest.mark.parametrize("scheme", SIGNED)
@pytest.mark.parametrize("body", [BODY, b"", b"\xff\xfe\x00", b"x" * 100_000], ids=["json", "empty", "bytes", "long"])
def test_what_its_sender_signed_is_genuine(scheme: Scheme, body: bytes) -> None:
    assert judged(scheme, signed(scheme, body, NOW), body) is Verdict.GENUINE


@pytest.mark.parametrize("scheme", SIGNED)
def test_any_of_several_secrets_counts(scheme: Scheme) -> None:
    both = proof(scheme, b"an older secret", key(scheme))
    assert verify(both, call(signed(scheme, BODY, NOW)), NOW) is Verdict.GENUINE
    older = call(signed(scheme, BODY, NOW, secret=b"an older secret"))
    assert verify(both, older, NOW) is Verdict.GENUINE
    assert verify(proof(scheme), older, NOW) is Verdict.FORGED


@pytest.mark.parametrize("scheme", SIGNED)
def test_nothing_is_genuine_without_a_secret(scheme: Scheme) -> None:
    assert verify(Proof(scheme=scheme, header=PLAIN), call(signed(scheme, BODY, NOW)), NOW) is Verdict.FORGED


@pytest.mark.parametrize("scheme", SIGNED)
def test_another_body_is_forged(scheme: Scheme) -> None:
    assert judged(scheme, signed(scheme, BODY, NOW), BODY + b" ") is Verdict.FORGED


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize(
    ("age", "verdict"),
    [(299, Verdict.GENUINE), (-299, Verdict.GENUINE), (302, Verdict.STALE), (-302, Verdict.STALE)],
)
def test_a_time_too_far_from_now_is_stale(scheme: Scheme, age: float, verdict: Verdict) -> None:
    assert judged(scheme, signed(scheme, BODY, NOW - age)) is verdict


@pytest.mark.parametrize("scheme", TIMED)
def test_the_time_is_signed(scheme: Scheme) -> None:
    was, now = str(int(NOW - 1000)), str(int(NOW))
    old = signed(scheme, BODY, NOW - 1000)
    moved = {name: value.replace(was, now) for name, value in old.items()}
    assert moved != old
    assert judged(scheme, moved) is Verdict.FORGED


def test_the_id_of_standard_webhooks_is_signed() -> None:
    headers = {**signed("standard-webhooks", BODY, NOW), "webhook-id": "m-2"}
    assert judged("standard-webhooks", headers) is Verdict.FORGED


def test_method_and_address_of_hubspot_are_signed() -> None:
    headers = signed("hubspot-v3", BODY, NOW)
    assert verify(proof("hubspot-v3"), call(headers, method=b"PUT"), NOW) is Verdict.FORGED
    assert verify(proof("hubspot-v3"), call(headers, url=f"{URL}?x=1"), NOW) is Verdict.FORGED


@pytest.mark.parametrize("scheme", TIMED)
@pytest.mark.parametrize("written", ["", " ", "x", "-1", "1e9", "+1800000000", "1_800_000_000", "\u0661", "9" * 5000])
def test_a_time_that_is_no_number_is_never_genuine(scheme: Scheme, written: str) -> None:
    headers = {
        name: written if "imestamp" in name else value.replace(str(int(NOW)), written)
        for name, value in signed(scheme, BODY, NOW).items()
    }
    assert judged(scheme, headers) is not Verdict.GENUINE


def test_a_signature_among_others_counts() -> None:
    headers = signed("standard-webhooks", BODY, NOW)
    headers["webhook-signature"] = f"v1a,xyz v1,wrong nonsense {headers['webhook-signature']} v2,later"
    assert judged("standard-webhooks", headers) is Verdict.GENUINE
    headers = signed("stripe", BODY, NOW)
    headers["Stripe-Signature"] = headers["Stripe-Signature"].replace(",v1=", f",v1={'0' * 64}, v1=")
    assert judged("stripe", headers) is Verdict.GENUINE


def test_a_signature_of_another_version_does_not_count() -> None:
    headers = signed("standard-webhooks", BODY, NOW)
    headers["webhook-signature"] = headers["webhook-signature"].replace("v1,", "v2,")
    assert judged("standard-webhooks", headers) is Verdict.FORGED
    headers = signed("stripe", BODY, NOW)
    headers["Stripe-Signature"] = headers["Stripe-Signature"].replace("v1=", "v0=")
    assert judged("stripe", headers) is Verdict.FORGED


PUBLISHED = {
    # standardwebhooks.com and the test of its reference libraries
    "standard-webhooks": (
        Proof(scheme="standard-webhooks", keys=(KEYS["standard-webhooks"],)),
        call(
            {
                "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
                "webhook-timestamp": "1614265330",
                "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
            },
            b'{"test": 2432232314}',
        ),
        1614265330,
    ),
    # docs.github.com, "Validating webhook deliveries", "Testing the webhook payload validation"
    "github": (
        Proof(scheme="github", keys=(b"It's a Secret to Everybody",)),
        call(
            {
                "X-Hub-Signature-256": "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
            },
            b"Hello, World!",
        ),
        0,
    ),
    # docs.slack.dev, "Verifying requests from Slack"
    "slack": (
        Proof(scheme="slack", keys=(b"8f742231b10e8888abcd99yyyzzz85a5",)),
        call(
            {
                "X-Slack-Request-Timestamp": "1531420618",
                "X-Slack-Signature": "v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503",
            },
            b"token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V"
            b"&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text="
            b"&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F"
            b"96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c",
        ),
        1531420618,
    ),
}


@pytest.mark.parametrize(("published", "sent", "now"), PUBLISHED.values(), ids=PUBLISHED)
def test_the_vendors_own_example_is_genuine(published: Proof, sent: Call, now: float) -> None:
    assert verify(published, sent, now) is Verdict.GENUINE


# printf hello | openssl dgst -sha256 -hmac 'a secret of ours'
HEX = "07012bf574c77c0cc97c2cbaa7d40221082e4cad8642c96ae988fd2fe38f2aac"
BASE64 = "BwEr9XTHfAzJfCy6p9QCIQguTK2GQslq6Yj9L+OPKqw="
PLACES = {
    "hex": (HmacSettings(header="X-Sig"), HEX),
    "prefix": (HmacSettings(header="x-sig", prefix="sha256="), f"sha256={HEX}"),
    "capitals": (HmacSettings(header="X-SIG", prefix="sha256="), f"sha256={HEX.upper()}"),
    "base64": (HmacSettings(header="X-Sig", encoding="base64"), BASE64),
    "base64 and prefix": (HmacSettings(header="X-Sig", encoding="base64", prefix="hmac "), f"hmac {BASE64}"),
}


@pytest.mark.parametrize(("place", "written"), PLACES.values(), ids=PLACES)
def test_a_plain_signature_stands_where_the_configuration_says(place: HmacSettings, written: str) -> None:
    plain = Proof(scheme="hmac", keys=(b"a secret of ours",), header=place)
    assert verify(plain, call({"X-Sig": written}, b"hello"), NOW) is Verdict.GENUINE
    assert verify(plain, call({"X-Other": written}, b"hello"), NOW) is Verdict.FORGED
    assert verify(plain, call({"X-Sig": written}, b"hello!"), NOW) is Verdict.FORGED


def test_the_prefix_of_a_plain_signature_must_be_there() -> None:
    plain = Proof(scheme="hmac", keys=(b"a secret of ours",), header=HmacSettings(header="X-Sig", prefix="sha256="))
    assert verify(plain, call({"X-Sig": HEX}, b"hello"), NOW) is Verdict.FORGED


# --- the vendors' own libraries, as oracles --------------------------------------------------------------------

BODIES = st.one_of(st.text(max_size=300), st.from_type(dict).map(str)).map(lambda text: text.encode("utf-8", "replace"))
ORACLE = settings(max_examples=cases(100, 1000))


@ORACLE
@given(body=BODIES, id_=st.from_regex(r"[!-~]{1,40}", fullmatch=True))
def test_standard_webhooks_agrees_with_its_library(body: bytes, id_: str) -> None:
    now = time.time()
    headers = signed("standard-webhooks", body, now, id_=id_)
    Webhook(SECRET).verify(body, headers, json_parse=False)
    assert judged("standard-webhooks", headers, body, now=now) is Verdict.GENUINE
    with pytest.raises(WebhookVerificationError):
        Webhook(OLD_SECRET).verify(body, headers, json_parse=False)


SVIX = {"webhook-id": "svix-id", "webhook-timestamp": "svix-timestamp", "webhook-signature": "svix-signature"}


def by_library(secret: str, now: float) -> dict[str, str]:
    signature = Webhook(secret).sign("m-1", datetime.fromtimestamp(now, UTC), BODY.decode())
    return {"webhook-id": "m-1", "webhook-timestamp": str(int(now)), "webhook-signature": signature}


@pytest.mark.parametrize("prefix", ["whsec_", ""])
@pytest.mark.parametrize("padding", ["=", ""])
@pytest.mark.parametrize("length", range(24, 65))
def test_a_secret_of_any_length_padded_or_not_is_read_as_the_library_reads_it(
    length: int, padding: str, prefix: str
) -> None:
    written = b64encode(bytes(range(160, 160 + length))).decode()
    secret = prefix + (written if padding else written.rstrip("="))
    read = Proof(scheme="standard-webhooks", keys=(signing_key(secret),))
    assert verify(read, call(by_library(secret, NOW)), NOW) is Verdict.GENUINE


@pytest.mark.parametrize("wrong", ["whsec_a", "whsec_=", "whsec_AAAA=A==", "whsk_AAAA", "AA-_", "AA AA", "\u00e9"])
def test_what_is_no_base64_is_no_secret(wrong: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - which words base64 finds is its own business
        signing_key(wrong)


def test_the_headers_of_svix_are_read_too() -> None:
    headers = signed("standard-webhooks", BODY, NOW)
    renamed = {SVIX[name]: value for name, value in headers.items()}
    assert judged("standard-webhooks", renamed) is Verdict.GENUINE
    assert judged("standard-webhooks", renamed, BODY + b" ") is Verdict.FORGED
    assert judged("standard-webhooks", {**headers, **renamed}) is Verdict.GENUINE


@pytest.mark.parametrize("name", SVIX)
@pytest.mark.parametrize("kept", ["webhook", "svix"])
def test_headers_that_contradict_each_other_are_forged(name: str, kept: str) -> None:
    headers = signed("standard-webhooks", BODY, NOW)
    other = {SVIX[each]: value for each, value in headers.items()}
    if kept == "svix":
        headers, other = other, headers
    contradicting = dict(zip(headers, other, strict=True))[name if kept == "webhook" else SVIX[name]]
    assert judged("standard-webhooks", {**headers, contradicting: "m-2"}) is Verdict.FORGED


def test_an_empty_id_is_forged_even_if_it_is_signed_so() -> None:
    assert judged("standard-webhooks", signed("standard-webhooks", BODY, NOW, id_="")) is Verdict.FORGED


@ORACLE
@given(body=BODIES)
def test_stripe_agrees_with_its_library(body: bytes) -> None:
    now, text = time.time(), body.decode()
    header = signed("stripe", body, now)["Stripe-Signature"]
    WebhookSignature.verify_header(text, header, SECRET, 300)
    assert judged("stripe", {"Stripe-Signature": header}, body, now=now) is Verdict.GENUINE
    with pytest.raises(SignatureVerificationError):
        WebhookSignature.verify_header(text, header, OLD_SECRET, 300)


class FixedClock(Clock):
    def now(self) -> float:
        return NOW


@ORACLE
@given(body=BODIES)
def test_slack_agrees_with_its_library(body: bytes) -> None:
    headers = signed("slack", body, NOW)
    assert SignatureVerifier(SECRET, FixedClock()).is_valid_request(body, headers)
    assert judged("slack", headers, body) is Verdict.GENUINE
    assert not SignatureVerifier(OLD_SECRET, FixedClock()).is_valid_request(body, headers)


@ORACLE
@given(body=BODIES)
def test_hubspot_agrees_with_its_library(body: bytes) -> None:
    now = time.time()
    headers = signed("hubspot-v3", body, now)
    timestamp, signature = headers["X-HubSpot-Request-Timestamp"], headers["X-HubSpot-Signature-v3"]
    assert Signature.is_valid(signature, SECRET, body.decode(), URL, "POST", "v3", timestamp)
    assert judged("hubspot-v3", headers, body, now=now) is Verdict.GENUINE


# --- whatever strangers send -------------------------------------------------------------------------------------

NAMES = sorted({name.lower().encode() for scheme in SIGNED for name in signed(scheme, b"", NOW)})
TOKENS = st.sampled_from(
    [b"v1", b"v0", b"t", b"=", b",", b" ", b".", b"sha256=", b"v1,", b"t=", str(int(NOW)).encode(), b"\xff", b"\x00"]
)
NOISE = st.lists(TOKENS | st.binary(max_size=12), max_size=10).map(b"".join)


@settings(max_examples=cases(1000, 20_000))
@given(
    scheme=st.sampled_from(SIGNED),
    headers=st.dictionaries(st.sampled_from(NAMES), NOISE, max_size=len(NAMES)),
    body=st.binary(max_size=60),
    now=st.floats(allow_nan=False, allow_infinity=False),
)
def test_no_malformed_call_is_genuine_or_an_exception(
    scheme: Scheme, headers: dict[bytes, bytes], body: bytes, now: float
) -> None:
    sent = Call(method=b"POST", url=b"", headers=headers, body=body)
    assert verify(proof(scheme, b"k" * 32, b"l" * 32), sent, now) is Verdict.FORGED


def _flip(text: str, place: int) -> str:
    place %= len(text)
    return text[:place] + ("0" if text[place] != "0" else "1") + text[place + 1 :]


MUTATIONS: list[Callable[[str, int], str]] = [
    _flip,
    lambda text, place: text[: place % len(text)],
    lambda text, place: text[place % len(text) + 1 :],
]


@settings(max_examples=cases(500, 20_000))
@given(scheme=st.sampled_from(SIGNED), mutate=st.sampled_from(MUTATIONS), place=st.integers(0, 500), data=st.data())
def test_no_mutated_signature_is_genuine(
    scheme: Scheme, mutate: Callable[[str, int], str], place: int, data: st.DataObject
) -> None:
    headers = signed(scheme, BODY, NOW)
    name = data.draw(st.sampled_from([name for name in headers if name != "X-GitHub-Delivery"]))
    changed = mutate(headers[name], place)
    verdict = judged(scheme, {**headers, name: changed})
    # Only what stands behind Stripe's signature, for older receivers, may be anything.
    is_tail = scheme == "stripe" and changed.startswith(headers[name].partition(",v0")[0])
    assert verdict is not Verdict.GENUINE or is_tail
