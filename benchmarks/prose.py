"""What `normalize="auto"` changes in ordinary prose: every change with how often it occurs, to be read by a person.

    python -m benchmarks.prose de FILE_OR_FOLDER... --json OUT

Files are plain text or HTML, of which the paragraphs and items of lists are taken; Debian's packages of fortunes,
handbooks and FAQs have some for each language. White space, markup and emoji do not count. A report has what was
written and what is said for it, by kind, and no running text of others.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from voxtral.text.normalize import read
from voxtral.text.preview import normalize_text

_BLOCKS = {"p", "li", "dd", "dt", "td", "h1", "h2", "h3", "h4"}
_SILENT = {"pre", "script", "style", "code", "tt", "kbd"}


class _Paragraphs(HTMLParser):
    """Takes the text of paragraphs, without program text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = [""]
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in _SILENT
        if tag in _BLOCKS:
            self.found.append("")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in _SILENT
        if tag in _BLOCKS:
            self.found.append("")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.found[-1] += data


def paragraphs(paths: list[Path]) -> Iterator[str]:
    """Give the paragraphs of files, white space reduced."""
    seen: set[str] = set()
    for path in paths:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if not file.is_file() or file.suffix in {".dat", ".png", ".gz", ".svg", ".css", ".u8"} or file.is_symlink():
                continue
            try:
                text = file.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            if file.suffix in {".html", ".htm"}:
                parser = _Paragraphs()
                parser.feed(text)
                blocks = parser.found
            else:
                blocks = text.split("\n%\n")
            for block in blocks:
                words = " ".join(block.split())
                if len(words) > 40 and words not in seen:
                    seen.add(words)
                    yield words


def report(language: str, texts: list[str]) -> dict[str, Any]:
    """Count every change of some texts."""
    changes: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    left: Counter[str] = Counter()
    started = time.process_time()
    for text in texts:
        read(text, language)
    seconds = time.process_time() - started
    for text in texts:
        preview = normalize_text(text, language)
        for edit in preview.edits:
            if edit.kind not in {"markup", "letters"}:
                changes[edit.kind][text[edit.start : edit.end], edit.spoken] += 1
        left.update(each.written for each in preview.left if each.kind == "digits")
    num_chars = sum(map(len, texts))
    return {
        "language": language,
        "characters": num_chars,
        "seconds_per_million": round(seconds / max(1, num_chars) * 1e6, 2),
        "changes": {
            kind: [[written, spoken, count] for (written, spoken), count in found.most_common()]
            for kind, found in sorted(changes.items())
        },
        "left": left.most_common(300),
    }


def main() -> None:
    """Read texts and write what is changed in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language")
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--max-chars", type=int, default=400_000, help="take no more of the texts")
    arguments = parser.parse_args()
    texts: list[str] = []
    for text in paragraphs(arguments.paths):
        if sum(map(len, texts)) > arguments.max_chars:
            break
        texts.append(text)
    found = report(arguments.language, texts)
    for kind, rows in found["changes"].items():
        print(f"{kind}: {sum(count for *_, count in rows)} of {len(rows)} forms")
        for written, spoken, count in rows[:20]:
            print(f"  {count:5} {written!r} -> {spoken!r}")
    print(f"{found['characters']} characters, {found['seconds_per_million']} s a million")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, ensure_ascii=False, indent=0), encoding="utf-8")


if __name__ == "__main__":
    main()
