from __future__ import annotations

import pytest

from orchestrator.intake.characters import clean_text
from orchestrator.intake.markup import html_to_text
from orchestrator.intake.quoting import new_text, unflow

HISTORY = "\n\nThank you for your order.\nYour link is here."


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("one<br>two<br/><br>three", "one\ntwo\n\nthree"),
        ("<p>one</p><p>two</p>", "one\n\ntwo"),
        ("<div>one</div><div><br></div><div>two</div>", "one\n\ntwo"),
        ("<p>&nbsp;</p>\n<p>one\n two&nbsp; three</p>" + "<p></p>" * 9, "one two three"),
        ("a<b>b</b>c <a href='x'>d</a>", "abc d"),
        ("<table><tr><td>1</td><td>2</td></tr><tr><td>3</td></tr></table>", "1 2\n3"),
        ("<head><title>t</title><style>s { }</style></head>x<SCRIPT>if (a<b) </SCRIPT\n>y", "xy"),
        ("x<!-- <p>no</p> -->y<!-->z<![if !mso]>!<![endif]>", "xyz!"),
        ("x<script>never closed <p>no</p>", "x"),
        ("x<!-- never closed <p>no</p>", "x"),
        ("1 < 2 <3 &lt;b&gt; &amp;amp; &euro;&#8364;", "1 < 2 <3 <b> &amp; €€"),
        ("&#" + "1" * 5000 + "; &#x110000; &#xd800;", "\ufffd \ufffd \ufffd"),
        ("mine<blockquote type=cite>old<br>older</blockquote>mine", "mine\n> old\n> older\nmine"),
        ("</blockquote>mine", "mine"),
        ("<pre>a\n  b\n</pre>c\nd", "a\nb\nc d"),
        ("no markup at all", "no markup at all"),
        ("cut off <a href=", "cut off"),
        ("", ""),
    ],
)
def test_html_is_reduced_to_what_its_reader_sees(source: str, text: str) -> None:
    assert html_to_text(source) == text


@pytest.mark.parametrize(
    ("mail", "said"),
    [
        ("mine\n\nOn Tue, 4 Mar 2025 at 10:12, Shop <shop@example.org> wrote:\n\n> theirs\n>> older", "mine"),
        (
            "mine\n\nOn Tue, 4 Mar 2025 at 10:12, Shop <shop@example.org>\nwrote:\n> theirs\nmine too",
            "mine\n\nmine too",
        ),
        ("mine\n\nOn Mar 4, 2025, at 10:12, Shop wrote:" + HISTORY, "mine"),
        ("meins\n\nAm Di., 4. März 2025 um 10:12 Uhr schrieb Shop <\nshop@example.org>:" + HISTORY, "meins"),
        ("le mien\n\nLe mar. 4 mars 2025 à 10:12, Shop a écrit :" + HISTORY, "le mien"),
        ("mine\n\n-----Original Message-----\nFrom: Shop" + HISTORY, "mine"),
        ("meins\n\n-----Ursprüngliche Nachricht-----\nVon: Shop" + HISTORY, "meins"),
        ("mine\n\n________________________________\nFrom: Shop\nSent: Monday\nTo: Ann\nSubject: x" + HISTORY, "mine"),
        ("mine\n*From:* Shop\n*Sent:* Monday\n*Subject:* x" + HISTORY, "mine"),
        ("le mien\nDe : Shop\nEnvoyé : lundi\nÀ : Ann\nObjet : x" + HISTORY, "le mien"),
        ("> theirs\nmine", "mine"),
        ("> From: Shop\n> Sent: Monday\n> Subject: x\n\nmine", "mine"),
        ("resend\n\n---------- Forwarded message ---------\nFrom: Shop\nDate: x\nSubject: y\n\nyour order",) * 2,
        ("Begin forwarded message:\n\n> From: Shop\n> your order",) * 2,
        ("From: the shop I bought a book.\nMy name: Ann",) * 2,
        ("On Monday she wrote:\nI lost it",) * 2,
        ("On the 4th at 10:12 I wrote to you",) * 2,
        ("a > b\n- one\n-- \nAnn",) * 2,
        ("> everything\n> is quoted",) * 2,
        ("On 4 Mar 2025, Shop wrote:\n> theirs",) * 2,
        ("", ""),
        (" \n\n", ""),
    ],
)
def test_what_is_only_quoted_is_left_out(mail: str, said: str) -> None:
    assert new_text(mail) == said


@pytest.mark.parametrize(
    ("flowed", "delete_space", "text"),
    [
        ("one \ntwo\nthree", False, "one two\nthree"),
        ("one \ntwo\nthree", True, "onetwo\nthree"),
        (" From me\n  x", False, "From me\n x"),
        ("a \n> b \n> c\nd", False, "a \n> b \n> c\nd"),
        ("a\n-- \nAnn", False, "a\n-- \nAnn"),
    ],
)
def test_flowed_lines_become_paragraphs(flowed: str, text: str, *, delete_space: bool) -> None:
    assert unflow(flowed, delete_space=delete_space) == text


def test_clean_text_has_plain_line_ends_and_nothing_that_is_no_text() -> None:
    assert clean_text("\ufeffa\r\nb\rc\x85d\u2028e\x00\x1b[0m\x9f\t\u202ef\ud800 \U0001f469\u200d\U0001f4bb") == (
        "a\nb\nc\nd\ne[0m\tf\ufffd \U0001f469\u200d\U0001f4bb"
    )
