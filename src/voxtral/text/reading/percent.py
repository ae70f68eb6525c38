"""Percentages: "5 %", "5%-10%", "%٥" as in Arabic, "‰", and German "50%ige"."""

from __future__ import annotations

import re
from collections.abc import Iterator

from voxtral.text.reading.amounts import SPACE, Amounts, glue
from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.places import filter_by
from voxtral.text.reading.written import Written

_AFTER = re.compile(
    rf"{SPACE}?(?:(?P<percent>[%٪])|(?P<permille>[‰؉]))(?:-?(?P<ending>ig(?:e[nmrs]?)?)\b)?(?!\w|[ ]?\d|[%#*])"
)
_SIGNED = filter_by("[%٪‰؉]")
_BEFORE = re.compile(rf"[%٪]{SPACE}?$")


def percent_claims(written: Written) -> Iterator[Claim]:
    """Claim numbers with a sign for percent or per mille."""
    if written.has_number_words:
        yield from glue(written, _claims(written))


def _claims(written: Written) -> Iterator[Claim]:
    amounts = Amounts(written)
    for start in written.priced_starts(_SIGNED) if written.language == "ar" else written.joined_starts(_SIGNED):
        if not written.begins_apart(start):
            continue
        for amount in amounts.at(start):
            after = _AFTER.match(written.text, amount.end)
            # Arabic has the sign on either side.
            is_arabic = written.language == "ar" and after is None
            before = _BEFORE.search(written.text, max(0, amount.start - 2), amount.start) if is_arabic else None
            if before is not None and not written.begins_apart(before.start()):
                before = None
            if amount.is_code or (after is None and before is None):
                continue
            # German counts percents: "ein Prozent"; others name them: "uno por ciento".
            words = amounts.say(amount, counts=written.language in {"de", "fr"})
            if words is None:
                continue
            sign = written.grammar.percent
            if after and after.group("permille"):
                sign = written.cldr.units["‰"].forms["other"].replace("{0}", "").strip()
            end = after.end() if after else amount.end
            if after and after.group("ending"):
                if written.language != "de":
                    continue
                yield claim(amount.start, end, f"{words}{sign.lower()}{after.group('ending')}", "percent")
            else:
                yield claim(before.start() if before else amount.start, end, f"{words} {sign}", "percent")
            break
