"""The template of an issue asks for what the doctor prints, and for switches that there are."""

from __future__ import annotations

import re
from pathlib import Path

from voxtral.doctor.report import FIRST_LINE, LAST_LINE
from voxtral.switches import SWITCHES

TEMPLATE = Path(__file__).parents[2] / ".github" / "ISSUE_TEMPLATE" / "gpu-or-speed.yml"


def test_the_template_asks_for_the_block_and_names_switches_that_there_are() -> None:
    text = TEMPLATE.read_text(encoding="utf-8")
    for line in (FIRST_LINE, LAST_LINE):
        assert line.strip("- ") in text
    assert set(re.findall(r"--no-\w+", text)) <= {switch.flag for switch in SWITCHES.values()}
    assert set(re.findall(r"VOXTRAL_\w+", text)) <= {switch.variable for switch in SWITCHES.values()}
    assert text.count("required: true") >= 3
