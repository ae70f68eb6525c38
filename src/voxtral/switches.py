"""What of the machinery can be switched off: a variable and an option of every command that loads a model for each.

A switch is for a machine on which something does not work as it should. Speech is right with all of them off, only
slower. No torch.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

from voxtral.errors import OptionError

_TRUTHS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


@dataclass(frozen=True)
class Switch:
    """One thing that can be switched off.

    Attributes:
        variable: 0 switches it off.
        flag: of the command line, does the same.
        help: what happens then.
    """

    variable: str
    flag: str
    help: str


SWITCHES: Mapping[str, Switch] = {
    "cuda_graphs": Switch(
        "VOXTRAL_CUDA_GRAPHS", "--no-graphs", "On a GPU, do without CUDA graphs: right, and slower where few speak."
    ),
    "triton": Switch(
        "VOXTRAL_TRITON", "--no-triton", "On a GPU, do without Triton kernels: plain operations compute, slower."
    ),
    "cpu_kernels": Switch(
        "VOXTRAL_CPU_KERNELS",
        "--no-cpu-kernels",
        "On a CPU, multiply matrices of few bits by torch's own products: right, and slower.",
    ),
    "self_check": Switch(
        "VOXTRAL_SELF_CHECK",
        "--no-self-check",
        "On a GPU, skip the self-check of the first use.",
    ),
    "calibration": Switch(
        "VOXTRAL_CALIBRATION",
        "--no-calibration",
        "Do not find out, the first time that word times are wanted of a model, which of its heads follow the text.",
    ),
}


def parse_truth(text: str) -> bool:
    """Read yes or no as variables have it.

    >>> parse_truth("0"), parse_truth("On")
    (False, True)

    Raises:
        ValueError: it is neither.
    """
    if text.lower() not in _TRUTHS:
        raise ValueError(text)
    return _TRUTHS[text.lower()]


def is_switched_off(name: str) -> bool:
    """Tell whether the variable of a switch says off.

    Raises:
        OptionError: its value is neither yes nor no.
    """
    variable = SWITCHES[name].variable
    text = os.environ.get(variable, "").strip()
    try:
        return bool(text) and not parse_truth(text)
    except ValueError as error:
        raise OptionError(f"{variable} is {text!r}; it must be 1 or 0; correct or unset it") from error


def check_variables() -> None:
    """Refuse a variable that says neither yes nor no, before any work is done.

    Raises:
        OptionError: one does.
    """
    for name in SWITCHES:
        is_switched_off(name)
