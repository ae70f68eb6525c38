"""Plans of telephone numbers: the forms that are written for nothing else, and those that a word beside must tell.

Knows nothing of what stands around a number; `phones.py` does.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from voxtral.text.reading.numerals import NO_BREAK
from voxtral.text.reading.places import Filter

SPACE = f" {NO_BREAK}"
HYPHEN = "\\-\u2010\u2011\u2013"
PLUS = "\\+\uff0b"
_ZERO = "[0٠०]"

# Plans that nothing else is written in, for all languages. S stands for a space or hyphen, D also for a point.
CLEAR = (
    # International, and with a trunk zero.
    r"[(]?[P][S]?\(?\d{1,4}\)?(?:[S./]{0,2}\(?\d{1,12}\)?){1,6}",
    r"[P]\d{8,15}",
    r"\(?Z\d{1,5}\)?(?:[S]\d{2,10}){1,5}",
    r"Z\d{1,5}[S]?/[S]?\d{3,10}(?:[S]\d{1,6}){0,3}",
    r"Z\d(?:\.\d\d){4}",
    r"Z\d{2,5}\.\d{5,9}",
    r"\(Z\d{1,5}\)[S]?\d{3,9}(?:[S]\d{2,6}){0,3}",
    r"Z[S]?\(\d{1,5}\)[S]?\d{3,9}(?:[S]\d{2,6}){0,3}",
    # With an area code in brackets, and what the Americas write.
    r"\(\d{2,4}\)[S]?\d{3,5}[D]\d{3,4}",
    r"\(\d{2,4}\)[S]?\d{6,8}",
    r"(?:1[S]?)?\(\d{3}\)[S]?\d{3}[D]\d{4}",
    r"\d{3}[S]\d{3}[H]\d{4}(?:-\d{1,5}){0,2}",
    r"\d{3}\.\d{3}\.\d{4}",
    r"1[H]\d{3}[H]\d{3}[H]\d{4}",
    r"1\.\d{3}\.\d{3}\.\d{4}",
    r"[2-9]\d{2}[ ]\d{3}[ ]\d{4}",
    r"\d{3}-\d{3}-\d{3}",
    r"(?<!\d )\d{2}(?: \d{2}){4}(?! \d)",
)
CLEAR_IN = {
    "en": (
        r"[2-9]\d[1-9]-(?!\d\d00)\d{3}[1-9]",
        r"1[38]00[S]\d{3}[S]\d{3,4}",
        r"[6-9]\d{4}[S]\d{5}",
        r"\d{3}-\d{2}-\d{4}",
    ),
    "hi": (r"[6-9]\d{4}[S]\d{5}", r"[६-९]\d{4}[S]\d{5}", r"[6-9६-९]\d{9}", r"1[38]00[S]\d{2,3}[S]\d{3,4}"),
    "es": (
        r"[6-9]\d{2}(?:[S]\d{2}){3}",
        r"[89]\d[S]\d{3}[S]\d{2}[S]\d{2}",
        r"\d{2}[S]\d{4}[S]\d{4}",
        r"[29][S]\d{4}[S]\d{4}",
        r"3\d{2}[S]\d{7}",
        r"[2-9]\d{3}[H]\d{4}",
    ),
    "pt": (
        r"9\d{4}[S]\d{4}",
        r"[2-5]\d{3}[H]\d{4}",
        r"2\d[S]\d{3}[S]\d{4}",
        r"\d{2}[S]9?\d{4}[H]\d{4}",
        r"0?[358]00[S]\d{3}[S]\d{4}",
        r"\d{5}-\d{3}",
    ),
    "it": (r"3\d{2}[D]\d{6,7}", r"3\d{2}[S]\d{2}[S]\d{2}[S]\d{3}", r"800[S]\d{6}"),
    "fr": (r"[2-9]\d{2}[S]\d{3}[H]\d{4}", r"\d{3}[S]\d{3}[S]\d{2}[S]\d{2}"),
    "de": (r"\d{2}[S]\d{3}[S]\d{2}[S]\d{2}",),
    "ja": (r"\d{2,4}-\d{2,4}-\d{4}",),
}
# What may be a quantity elsewhere, and is a telephone number after a word that says so.
LIKELY = (
    r"\d{3}[D]\d{3}[D]\d{3,4}",
    r"\d{4}[D]\d{4}",
    r"\d{3}[D]\d{4,7}",
    r"\d{2}[S]\d{6,8}",
    r"\d{2}(?:[D]\d{2}){3,4}",
    r"\d{3}(?:[S]\d{2}){2,3}",
    r"\d{4}[S]\d{2,3}[S]\d{3,4}",
    r"\d{2}[S]\d{3}[S]\d{2,4}(?:[S]\d{2})?",
    r"\d{7,12}",
)
CARDS = (r"(?:\d{4}[S]){3}\d{4}(?:[S]\d{3})?", r"3[47]\d{2}[S]\d{6}[S]\d{5}")


@cache
def compiled(plans: Iterable[str]) -> tuple[re.Pattern[str], ...]:
    """Compile plans; a letter for each kind of character keeps them legible."""
    kinds = {
        "[S./]": f"[{SPACE}./{HYPHEN}]",
        "[S]": f"[{SPACE}{HYPHEN}]",
        "[D]": f"[{SPACE}.{HYPHEN}]",
        "[H]": f"[{HYPHEN}]",
        "[P]": f"[{PLUS}]",
        "Z": _ZERO,
    }
    patterns: list[re.Pattern[str]] = []
    for plan in plans:
        source = plan
        for kind, characters in kinds.items():
            source = source.replace(kind, characters)
        patterns.append(re.compile(source + r"(?!\d)"))
    return tuple(patterns)


_DIGIT_OF_PLAN = re.compile(r"(\{[\d,]+\}|\\d)|\[[\d०-९-]+\]|\d|Z|\(\?![^()]*\)")


@cache
def may_be_plan(language: str) -> Filter:
    """Let groups of digits through that are some plan with other digits: most numbers are none."""
    plans = (
        _DIGIT_OF_PLAN.sub(lambda found: found.group(1) or ("" if found.group()[0] == "(" else r"\d"), plan)
        for plan in CARDS + CLEAR + CLEAR_IN.get(language, ())
    )
    return Filter(any_of_plans(compiled(tuple(plans))).search)


@cache
def any_of_plans(plans: tuple[re.Pattern[str], ...]) -> re.Pattern[str]:
    """Build one pattern that matches where any of some plans does: most numbers are none of them."""
    return re.compile("|".join(f"(?:{plan.pattern})" for plan in plans))
