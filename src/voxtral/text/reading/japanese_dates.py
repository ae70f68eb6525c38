"""Japanese dates and times in signs, written with the kanji that are read: 2024/01/30 is 2024年1月30日, (月) is 月曜日.

The digits stay, as in all of Japanese; `kana_numbers.py` reads them where kana is wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from voxtral.text.edits import Edit
from voxtral.text.reading.claims import Claim, claim
from voxtral.text.reading.written import Written

_DATE = re.compile(
    r"(?P<year>\d{4})(?P<mark>[/.-])(?P<month>\d{1,2})(?P=mark)(?P<day>\d{1,2})(?![\d./-])"
    r"|(?P<short_month>\d{1,2})/(?P<short_day>\d{1,2})(?=[(（][月火水木金土日])"
)
_WEEKDAY = re.compile(r"[(（](?P<day>[月火水木金土日])(?:曜|曜日)?(?:[・･·/,、](?P<holiday>祝|休|祭)日?)?[)）]")
_HOLIDAYS = {"祝": "祝日", "休": "休日", "祭": "祭日"}
_DAY = re.compile(r"[\d〇一二三四五六七八九十]日$")
_TIME = re.compile(
    r"(?:(?P<part>午前|午後|[AP]M|[ap]m)[ \u00a0]?)?"
    r"(?P<hour>\d{1,2}):(?P<minute>\d{2})(?::(?P<second>\d{2}))?(?![\d:.%])"
    r"(?:[ \u00a0\u202f]?(?P<after>[AaPp]\.?[Mm]\.?)(?![A-Za-z]))?"
)
_WAVE = "〜~～"
_RANGE = re.compile(
    rf"(?<=[年月日時分秒頃旬末初半代期紀)）])[{_WAVE}](?=\d|紀元|西暦|令和|平成|昭和|大正|明治|午前|午後|翌|同日|今|来)"
)
_DASH = re.compile(rf"[{_WAVE}–-]")
_SCORE_WORDS = ("スコア", "比", "対", "勝", "敗")
# Television and shops count the hours of a night on.
_LAST_HOUR = 29
_TIES_BEFORE = tuple(".:/,$€£¥_@#")


def japanese_date_claims(written: Written) -> Iterator[Claim]:
    """Claim the dates, weekdays and times of a Japanese text."""
    if written.language != "ja":
        return
    dates = list(_dates(written))
    times = list(_times(written))
    yield from dates
    yield from times
    ends = {found.end for found in (*dates, *times)}
    starts = {found.start for found in (*dates, *times)}
    for found in _WEEKDAY.finditer(written.text):
        if found.start() in ends or _DAY.search(written.text, max(0, found.start() - 2), found.start()):
            holiday = found.group("holiday")
            spoken = f"{found.group('day')}曜日" + _HOLIDAYS.get(holiday, "")
            yield claim(*found.span(), spoken, "date")
    for found in _RANGE.finditer(written.text):
        yield claim(*found.span(), "から", "range")
    for found in _DASH.finditer(written.text):
        if found.start() in ends and found.end() in starts:
            yield claim(*found.span(), "から", "range")


def _dates(written: Written) -> Iterator[Claim]:
    for found in _DATE.finditer(written.text):
        year = found.group("year")
        month, day = (int(found.group(name)) for name in (("month", "day") if year else ("short_month", "short_day")))
        if not (0 < month <= 12 and 0 < day <= 31) or not _begins_apart(written, found.start()):
            continue
        edits = [Edit(*found.span(), (f"{year}年" if year else "") + f"{month}月{day}日")]
        yield Claim(*found.span(), tuple(edits), "date")


def _times(written: Written) -> Iterator[Claim]:
    for found in _TIME.finditer(written.text):
        hour, minute, second = (int(found.group(name) or 0) for name in ("hour", "minute", "second"))
        before = written.text[max(0, found.start() - 6) : found.start()]
        if hour > _LAST_HOUR or minute > 59 or second > 59 or before.rstrip("はがの、: ").endswith(_SCORE_WORDS):
            continue
        if not _begins_apart(written, found.start()):
            continue
        part = (found.group("part") or found.group("after") or "").casefold()
        spoken = {"a": "午前", "p": "午後"}.get(part[:1], part) + f"{hour}時"
        if minute or second:
            spoken += f"{minute}分"
        if second:
            spoken += f"{second}秒"
        yield claim(*found.span(), spoken, "time")


def _begins_apart(written: Written, start: int) -> bool:
    """Tell whether no digit or sign before an offset belongs to what begins there; Japanese has no spaces."""
    before = written.text[max(0, start - 2) : start]
    if before[-1:] in _TIES_BEFORE or before[-1:].isdigit():
        return False
    # "GPT-4" and "v2" are names.
    return not re.fullmatch("[A-Za-z][-–]|.?[A-Za-z]", before)
