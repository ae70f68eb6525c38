"""Markdown to a page: by markdown-it-py; what stands between lines of dashes at the beginning is metadata."""

from __future__ import annotations

import re

_FRONT = re.compile(r"\A---[ \t]*\n(.*?)\n(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.DOTALL)
_PAIR = re.compile(r"([A-Za-z_-]+)[ \t]*:[ \t]*(.*)")
_ITEM = re.compile(r"[ \t]+-[ \t]+(.*)|-[ \t]+(.*)")


def split_front(text: str) -> tuple[dict[str, list[str]], str]:
    """Take off the metadata: names in small letters with their values, and the text that follows.

    Only what books need of YAML: a value or a list of values for each name, quoted or not.
    """
    found = _FRONT.match(text)
    if found is None:
        return {}, text
    values: dict[str, list[str]] = {}
    name = ""
    for line in found.group(1).split("\n"):
        if pair := _PAIR.fullmatch(line):
            name, value = pair.group(1).lower(), pair.group(2).strip()
            listed = value.startswith("[") and value.endswith("]")
            values[name] = (
                [_plain(each) for each in value[1:-1].split(",")] if listed else [_plain(value)] if value else []
            )
        elif (item := _ITEM.fullmatch(line)) and name:
            values[name].append(_plain(item.group(1) or item.group(2)))
    return {key: [each for each in found if each] for key, found in values.items()}, text[found.end() :]


def markdown_to_html(text: str) -> str:
    """Write Markdown as a page."""
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark").enable("table").render(text)


def _plain(value: str) -> str:
    value = value.strip()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
        return value[1:-1]
    return value
