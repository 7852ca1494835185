"""How customers say that they lost a download: they name the thing and its loss, and nothing about money."""

from __future__ import annotations

import re

THING = re.compile(
    r"\b(downloads?|downloading|links?|urls?|files?|zips?|e-?books?|pdfs?|courses?|videos?|lessons?|tutorials?|"
    r"patterns?|templates?|purchase[ds]?|bought|products?)\b"
)
_NOT = (
    r"\b(cannot|not|never|no longer|unable|nothing|(ca|could|would|wo|do|does|did|is|are|was|were|have|has|had)nt|"
    r"(trouble|problems?|issues?|difficult(y|ies)|struggling)( with)?( the| my| your| this)?)"
)
_MEANWHILE = r"( yet| even| ever| still| actually| really| been| be| able| to| seem| seems| manage| let| me| it)*"
_USED = (
    r"(find|finding|found|locate|download|downloads|downloading|open|opening|opens|access|accessing|get|getting|got|"
    r"work|works|working|worked|see|receive|received|arrive|arrived|come|came|play|playing|load|loading|save|saving|"
    r"view|watch|unzip|there|links?|files?|videos?|have (the|my|it|them|that|access))\b"
)
LOSS = re.compile(
    "|".join(
        (
            r"\blost(?! (in|interest|track)\b)",
            r"\b(lose|losing|missing|misplaced|mislaid|disappeared|vanished|deleted|erased|wiped|stolen)\b",
            r"\b(expired|crashed|died|broken|corrupt|corrupted|invalid|stopped working|nothing happens)\b",
            r"\b(its|is|are|all) gone\b",
            r"\b(get|gets|getting|got|gives?|gave|shows?|says)\b[^.?!]{0,20}\berror\b",
            rf"{_NOT}{_MEANWHILE} {_USED}",
            rf"{_NOT}\b[^.?!]{{0,40}}\bany ?more\b",
            r"\b(re-?send|re-?sent|re-?download)\b",
            r"\b(send|sent|get|have|e-?mail|give|need|receive|download|access)\b[^.?!]{0,80}\b(again|once more)\b",
            r"\bsend\b[^.?!]{0,30}\b(downloads?|my [a-z-]+)\b",
            r"\b(new|fresh|another|different|working) (download )?(links?|url)\b",
            r"\bwhere\b[^.?!]{0,25}\bmy\b",
        )
    )
)
OTHER_MATTER = re.compile(
    r"\b(refund\w*|money back|charged|chargeback|cancel\w*|invoices?|coupons?|vouchers?|discounts?|unsubscribe)\b"
)
"""Who writes of money wants a person, whatever else the mail says."""
_APOSTROPHES = re.compile("['`\u00b4\u2018\u2019\u02bc]")


def asks_for_download(subject: str, text: str) -> bool:
    """Tell whether somebody lost a download.

    In doubt it says no, and a person reads the mail.
    """
    said = " ".join(_APOSTROPHES.sub("", f"{subject}. {text}").casefold().split())
    return bool(THING.search(said) and LOSS.search(said) and not OTHER_MATTER.search(said))
