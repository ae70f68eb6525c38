"""What `normalize="auto"` changes in ordinary prose: every change with what stands around it, to be judged by a person.

    python -m benchmarks.prose de FILE_OR_FOLDER... --json OUT [--verdicts FILE]

Files are plain text, HTML or the XML of GNOME's help, of which the paragraphs and items of lists are taken without
program text; Debian's packages of fortunes, handbooks and FAQs have some for each language. Of each path an equal share
is taken at random, the same each time; paragraphs in another language are left out. White space, markup and emoji do
not count as changes. A row of the report is [written, spoken, how often, what stands around it at its first place];
signs of addresses are masked. `--verdicts` is a JSON file of wrong changes: {language: [[kind, written, spoken, part of
what stands around, why]]}; a row that fits one gets the reason as its last field.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from voxtral.text.guess import guess_language
from voxtral.text.language import count_scripts
from voxtral.text.language_data import load_language
from voxtral.text.normalize import read
from voxtral.text.preview import normalize_text

_BLOCKS = {"p", "li", "dd", "dt", "td", "h1", "h2", "h3", "h4", "title", "item"}
_SILENT = {"pre", "script", "style", "code", "tt", "kbd", "cmd", "screen", "input", "credit", "link"}
_SKIPPED = {".dat", ".png", ".gz", ".svg", ".css", ".u8", ".pdf", ".epub", ".po"}
_AROUND = 20
_ADDRESS = re.compile(r"\S*@\S*")


class _Paragraphs(HTMLParser):
    """Takes the text of paragraphs, without program text."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = [""]
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        # In HTML "link" has no end.
        if tag == "link" and ("rel", "stylesheet") not in attrs and "xref" not in dict(attrs):
            return
        self._silent += tag in _SILENT
        if tag in _BLOCKS:
            self.found.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in _SILENT))
        if tag in _BLOCKS:
            self.found.append("")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.found[-1] += data


def paragraphs(path: Path, language: str) -> Iterator[str]:
    """Give the paragraphs of a file or folder that are in a language, white space reduced."""
    seen: set[str] = set()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if not file.is_file() or file.suffix in _SKIPPED or file.is_symlink():
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if file.suffix in {".html", ".htm", ".page"}:
            parser = _Paragraphs()
            parser.feed(text)
            blocks = parser.found
        else:
            blocks = text.split("\n%\n")
        for block in blocks:
            words = " ".join(block.split())
            if len(words) > 40 and words not in seen and _is_in(words, language):
                seen.add(words)
                yield words


def _is_in(text: str, language: str) -> bool:
    """Tell whether a paragraph is in a language, as far as its script and its small words tell."""
    scripts = count_scripts(text)
    wanted = {script.upper() for script in load_language(language).scripts}
    if sum(scripts[script] for script in wanted) < 0.6 * scripts.total():
        return False
    return guess_language(text) in {language, None}


def sample(paths: list[Path], language: str, max_chars: int, seed: int) -> list[str]:
    """Take an equal share of each path, at random but the same each time; what one lacks, the next may give."""
    taken: list[str] = []
    found = [list(paragraphs(path, language)) for path in paths]
    left, num_left = max_chars, len(found)
    for texts in sorted(found, key=lambda texts: sum(map(len, texts))):
        random.Random(seed).shuffle(texts)
        share = left / num_left
        for text in texts:
            if share <= 0:
                break
            taken.append(text)
            share -= len(text)
            left -= len(text)
        num_left -= 1
    return taken


def report(language: str, texts: list[str], wrong: list[list[str]]) -> dict[str, Any]:
    """List every change of some texts, and count those that were judged wrong."""
    counts: dict[str, Counter[tuple[str, str]]] = defaultdict(Counter)
    around: dict[tuple[str, str, str], str] = {}
    left: Counter[str] = Counter()
    faults: Counter[tuple[str, str, str, str]] = Counter()
    started = time.process_time()
    for text in texts:
        read(text, language)
    seconds = time.process_time() - started
    for text in texts:
        preview = normalize_text(text, language)
        for edit in preview.edits:
            if edit.kind in {"markup", "letters"}:
                continue
            written = _masked(text[edit.start : edit.end])
            spoken = edit.spoken if "@" not in written else ""
            before, after = text[max(0, edit.start - _AROUND) : edit.start], text[edit.end : edit.end + _AROUND]
            place = _masked(f"{before}[]{after}")
            counts[edit.kind][written, spoken] += 1
            around.setdefault((edit.kind, written, spoken), place)
            for kind, of, said, near, why in wrong:
                if (kind, of) == (edit.kind, written) and said in spoken and near in before + after:
                    faults[kind, of, spoken, why] += 1
        left.update(each.written for each in preview.left if each.kind == "digits")
    num_chars = sum(map(len, texts))
    num_wrong = faults.total()
    return {
        "language": language,
        "characters": num_chars,
        "changes": sum(found.total() for found in counts.values()),
        "wrong": num_wrong,
        "wrong_per_50000": round(num_wrong * 50_000 / max(1, num_chars), 2),
        "seconds_per_million": round(seconds / max(1, num_chars) * 1e6, 2),
        "faults": [[*fault, count] for fault, count in faults.most_common()],
        "rows": {
            kind: [
                [written, spoken, count, around[kind, written, spoken]]
                for (written, spoken), count in found.most_common()
            ]
            for kind, found in sorted(counts.items())
        },
        "left": left.most_common(100),
    }


def _masked(text: str) -> str:
    return _ADDRESS.sub("x@x", text)


def main() -> None:
    """Read texts and write what is changed in them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("language")
    parser.add_argument("paths", nargs="+", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--verdicts", type=Path, help="a JSON file of what is wrong")
    parser.add_argument("--max-chars", type=int, default=250_000, help="take no more of the texts")
    parser.add_argument("--seed", type=int, default=1, help="another one takes other paragraphs")
    arguments = parser.parse_args()
    verdicts = json.loads(arguments.verdicts.read_text(encoding="utf-8")) if arguments.verdicts else {}
    texts = sample(arguments.paths, arguments.language, arguments.max_chars, arguments.seed)
    found = report(arguments.language, texts, verdicts.get(arguments.language, []))
    rows = found.pop("rows")
    for kind, of_kind in rows.items():
        print(f"{kind}: {sum(count for _, _, count, _ in of_kind)} of {len(of_kind)} forms")
    print({key: value for key, value in found.items() if key not in {"faults", "left"}})
    if arguments.json:
        lines = [f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in found.items()]
        kinds = [
            f"{json.dumps(kind)}: [\n"
            + ",\n".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) for row in of_kind)
            + "\n]"
            for kind, of_kind in rows.items()
        ]
        text = "{\n" + ",\n".join([*lines, '"rows": {\n' + ",\n".join(kinds) + "\n}"]) + "\n}\n"
        arguments.json.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
