"""Whether whole books are read as they should be: letters, titles, damage, time and memory.

    python -m benchmarks.books FOLDER

FOLDER has EPUBs; of those that the lists below know, the titles of chapters must be as they were written down by hand.
Of each, every letter of the body of its documents must be said or listed; cut and damaged forms must be read or
refused, and nothing else. The last line is JSON.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import re
import resource
import sys
import tempfile
import time
import zipfile
from pathlib import Path

from voxtral.book.reading import read_book
from voxtral.book.types import Book, count_letters
from voxtral.errors import BookError

_CUTS, _DELETIONS = 50, 200
_ROMAN = "I II III IV V VI VII VIII IX X XI XII XIII XIV XV XVI XVII XVIII XIX XX XXI XXII XXIII"

# What is spoken by default, in order; "…" stands for what is not compared.
_TITLES: dict[str, list[str]] = {
    "01-en-nested-toc": [
        "SECTION IV FAIRY STORIES—MODERN FANTASTIC TALES",
        "INTRODUCTORY",
        "190 A FOUR-LEAVED CLOVER",
        "I. The Rabbi and the Diadem",
        "II. Friendship",
        "III. True Charity",
        "IV. An Eastern Garden",
        "191 THE LORD HELPETH MAN AND BEAST",
        "192 THE REAL PRINCESS",
        "193 THE EMPEROR'S NEW CLOTHES",
        "194 THE NIGHTINGALE",
        "195 THE FIR TREE",
        "196 THE TINDER-BOX",
        "197 THE HARDY TIN SOLDIER",
        "198 THE UGLY DUCKLING",
        "199 THE STORY OF FAIRYFOOT",
        "200 THE HAPPY PRINCE",
        "201 THE KNIGHTS OF THE SILVER SHIELD",
        "202 THE PRINCE'S DREAM",
        "203 OLD PIPES AND THE DRYAD",
        "204 THE KING OF THE GOLDEN RIVER OR THE BLACK BROTHERS",
    ],
    "02-en-poem-endnotes": [
        "I. THE BURIAL OF THE DEAD",
        "II. A GAME OF CHESS",
        "III. THE FIRE SERMON",
        "IV. DEATH BY WATER",
        "V. WHAT THE THUNDER SAID",
    ],
    "14-en-footnotes-tiny": ["Chapter 1", "Chapter 2"],
    "15-de-no-toc-latin1": ["I.", "II.", "III."],
    "19-bad-missing-files": ["Dedication", *(f"{each}: …" for each in _ROMAN.split() if each != "III")],
    "x-hefty-water": ["Hefty Water"],
}


def main() -> None:
    """Read all books of a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--no-damage", action="store_true", help="leave out cut and damaged forms")
    options = parser.parse_args()
    random.seed(1)
    results = [_judge(path, with_damage=not options.no_damage) for path in sorted(options.folder.glob("*.epub"))]
    large = _large()
    is_good = all(each["letters_lost"] == 0 and each["titles"] != "wrong" and not each["raised"] for each in results)
    print(json.dumps({"books": results, "large": large, "is_good": is_good}))
    sys.exit(0 if is_good else 1)


def _judge(path: Path, *, with_damage: bool) -> dict[str, object]:
    started = time.perf_counter()
    book = read_book(path)
    seconds = time.perf_counter() - started
    lost = _letters_of_file(path) - _letters_of_book(book)
    titles = [chapter.title for chapter in book.chapters if chapter.is_spoken]
    wanted = _TITLES.get(path.stem)
    verdict = "not known" if wanted is None else "right" if _are_same(titles, wanted) else "wrong"
    if verdict == "wrong":
        print(path.name, titles)
    raised = _damage(path) if with_damage else []
    print(f"{path.name}: {len(titles)} chapters, {lost} letters lost, titles {verdict}, {seconds:.2f} s, {raised}")
    return {
        "name": path.name,
        "chapters": len(titles),
        "letters_lost": lost,
        "titles": verdict,
        "seconds": round(seconds, 3),
        "raised": raised,
    }


def _are_same(titles: list[str], wanted: list[str]) -> bool:
    pairs = zip(titles, wanted, strict=False)
    return len(titles) == len(wanted) and all(
        title.startswith(each.removesuffix("…")) if each.endswith("…") else title == each for title, each in pairs
    )


def _letters_of_book(book: Book) -> int:
    said = sum(count_letters(block.text) - block.num_added for chapter in book.chapters for block in chapter.blocks)
    return said + sum(count_letters(omission.text) for omission in book.omissions)


def _letters_of_file(path: Path) -> int:
    """Count letters of the spine's documents by patterns alone, without anything of the package."""
    import html

    with zipfile.ZipFile(path) as packed:
        package = next(name for name in packed.namelist() if name.endswith(".opf"))
        text = packed.read(package).decode("utf-8")
        folder = package.rpartition("/")[0]
        hrefs = {
            re.search(r'\bid="([^"]*)"', item)[1]: re.search(r'href="([^"]*)"', item)[1]  # type: ignore[index]
            for item in re.findall(r"<item\b[^>]*>", text)
        }
        letters = 0
        for name in re.findall(r'<itemref[^>]*idref="([^"]*)"', text):
            member = f"{folder}/{hrefs[name]}".lstrip("/")
            if member not in packed.namelist():
                continue
            data = packed.read(member)
            encoding = "cp1252" if b"charset=iso-8859-1" in data.lower() else "utf-8"
            page = re.sub(r"<!--.*?-->", "", data.decode(encoding), flags=re.DOTALL)
            page = re.sub(r"<(head|script|style)\b[^>]*(?<!/)>.*?</\1\s*>", "", page, flags=re.DOTALL | re.IGNORECASE)
            letters += count_letters(html.unescape(re.sub(r"<[^>]*>", "", page)))
    return letters


def _damage(path: Path) -> list[str]:
    """Read what is left of a book that was cut, and of one that lacks tags; give what was raised besides BookError."""
    data = path.read_bytes()
    raised: list[str] = []
    forms = [data[: len(data) * number // _CUTS] for number in range(1, _CUTS)]
    with zipfile.ZipFile(path) as packed:
        members = {name: packed.read(name) for name in packed.namelist()}
    pages = [name for name in members if name.lower().endswith((".xhtml", ".html", ".htm", ".opf", ".ncx", ".xml"))]
    forms += [_without_a_tag(members, random.choice(pages)) for _ in range(_DELETIONS)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "book.epub")
        for form in forms:
            file.write_bytes(form)
            try:
                read_book(file)
            except BookError:
                continue
            except Exception as error:  # noqa: BLE001 - this is what is looked for
                raised.append(repr(error)[:200])
    return sorted(set(raised))


def _without_a_tag(members: dict[str, bytes], page: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as packed:
        for name, content in members.items():
            tags = [found.span() for found in re.finditer(rb"<[^>]*>", content)] if name == page else []
            if tags:
                start, stop = random.choice(tags)
                content = content[:start] + content[stop:]
            packed.writestr(name, content)
    return written.getvalue()


def _large() -> dict[str, object]:
    """Read 1.2 million characters in 140 chapters; give seconds, and how much the peak of memory grew."""
    words = [f"{random.choice('bdfgklmnprst')}{random.choice('aeiou')}{number}".strip("0") for number in range(5000)]
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as packed:
        items, spine = "", ""
        for number in range(140):
            body = "".join(f"<p>{' '.join(random.choices(words, k=110))}.</p>" for _ in range(15))
            packed.writestr(f"{number}.xhtml", f"<html><body><h1>Chapter {number}</h1>{body}</body></html>")
            items += f'<item id="d{number}" href="{number}.xhtml" media-type="application/xhtml+xml"/>'
            spine += f'<itemref idref="d{number}"/>'
        packed.writestr("book.opf", f"<package><manifest>{items}</manifest><spine>{spine}</spine></package>")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "book.epub")
        file.write_bytes(written.getvalue())
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.perf_counter()
        book = read_book(file)
        seconds = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    chars = sum(chapter.num_chars for chapter in book.chapters)
    return {
        "chapters": len(book.chapters),
        "chars": chars,
        "seconds": round(seconds, 2),
        "peak_mb": after // 1024,
        "grown_mb": (after - before) // 1024,
    }


if __name__ == "__main__":
    main()
