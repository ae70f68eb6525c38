"""Switches: their variables say yes or no, and nonsense is refused before any work."""

from __future__ import annotations

import pytest

from voxtral.errors import OptionError
from voxtral.switches import SWITCHES, check_variables, is_switched_off


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize(("text", "is_off"), [("", False), ("1", False), ("yes", False), ("0", True), (" Off ", True)])
def test_a_variable_switches_off(name: str, text: str, is_off: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCHES[name].variable, text)
    assert is_switched_off(name) is is_off


@pytest.mark.parametrize("name", SWITCHES)
def test_a_variable_that_says_neither_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SWITCHES[name].variable, "maybe")
    with pytest.raises(OptionError, match=f"{SWITCHES[name].variable} is 'maybe'; it must be 1 or 0"):
        check_variables()


def test_nothing_is_off_where_nothing_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for switch in SWITCHES.values():
        monkeypatch.delenv(switch.variable, raising=False)
    check_variables()
    assert not any(map(is_switched_off, SWITCHES))
