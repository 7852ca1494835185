"""Mails that were damaged at random, the same ones every time."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from tests.support.paths import MAILS

CORPUS = [path.read_bytes() for path in sorted(MAILS.glob("*.eml"))]
CHARSETS = (
    "utf-8", "utf-7", "utf-16", "utf-32", "us-ascii", "iso-8859-1", "windows-1252", "gb2312", "gb18030", "big5",
    "euc-jp", "euc-kr", "iso-2022-jp", "iso-2022-kr", "hz", "johab", "shift_jis", "koi8-r", "x-unknown", "punycode",
    "idna", "unicode_escape", "raw_unicode_escape", "undefined", "hex", "zlib", "rot13", "mbcs",
)  # fmt: skip


def flip_bits(raw: bytes, chance: random.Random) -> bytes:
    damaged = bytearray(raw)
    for _ in range(chance.randint(1, 20)):
        damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
    return bytes(damaged)


def cut(raw: bytes, chance: random.Random) -> bytes:
    first, second = sorted(chance.randrange(len(raw) + 1) for _ in range(2))
    return chance.choice(
        [raw[:first], raw[first:], raw[:first] + raw[second:], raw[first:second] * chance.randint(1, 5)]
    )


def splice(raw: bytes, chance: random.Random) -> bytes:
    other = chance.choice(CORPUS)
    return raw[: chance.randrange(len(raw) + 1)] + other[chance.randrange(len(other) + 1) :]


def repeat_lines(raw: bytes, chance: random.Random) -> bytes:
    lines = raw.splitlines(keepends=True)
    for _ in range(chance.randint(1, 5)):
        lines.insert(chance.randrange(len(lines) + 1), chance.choice(lines))
    return b"".join(lines)


def swap_charsets(raw: bytes, chance: random.Random) -> bytes:
    known = rb"(?i)utf-8|us-ascii|iso-8859-1|gb2312|gb18030|iso-2022-jp|x-unknown"
    return re.sub(known, lambda _: chance.choice(CHARSETS).encode(), raw)


def swap_words(raw: bytes, chance: random.Random) -> bytes:
    words = [
        b"base64",
        b"quoted-printable",
        b"7bit",
        b"multipart/mixed",
        b"multipart/alternative",
        b"text/html",
        b"text/plain",
    ]
    words += [
        b"boundary",
        b"charset",
        b"filename*0*",
        b"format=flowed; delsp=yes",
        b"message/rfc822",
        b";",
        b'"',
        b"'",
        b"*",
    ]
    return re.sub(b"|".join(map(re.escape, words)), lambda found: chance.choice([found[0], chance.choice(words)]), raw)


def insert_rarities(raw: bytes, chance: random.Random) -> bytes:
    rare = [
        b"\r",
        b"\0",
        b"\n\n",
        b"\x1b$B",
        b"=?",
        b"?=",
        b"\xff",
        b"<",
        b">",
        b"(",
        b'"',
        b"\\",
        b",",
        b"&#",
        b"<!--",
        b"--",
    ]
    at = chance.randrange(len(raw) + 1)
    return raw[:at] + chance.choice(rare) * chance.randint(1, 50) + raw[at:]


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    flip_bits, cut, splice, repeat_lines, swap_charsets, swap_words, insert_rarities
]  # fmt: skip


def mutated(number: int) -> bytes:
    """Make the mutant of that number: the same mail every time."""
    chance = random.Random(number)
    raw = CORPUS[number % len(CORPUS)]
    for mutation in chance.choices(MUTATIONS, k=chance.randint(1, 4)):
        raw = mutation(raw or b"\n", chance)
    return raw
