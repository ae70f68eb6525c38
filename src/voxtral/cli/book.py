"""`voxtral book`: what an audiobook is made of, before anything is spoken."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from voxtral.cli.terminal import one_line, say, show
from voxtral.errors import BookError, quoted

if TYPE_CHECKING:
    from voxtral.book.types import Book, Chapter

_MAX_TITLE = 60
_MOST_WARNINGS = 20
# Of ordinary text, at ordinary speed.
_CHARS_PER_HOUR = 54_000


def plan(
    *,
    book: Annotated[Path, typer.Argument(metavar="BOOK", help="An .epub, .md, .html or .txt.")],
    depth: Annotated[
        int | None,
        typer.Option("--depth", metavar="N", min=1, help="Levels of the table of contents that make chapters."),
    ] = None,
    notes: Annotated[
        str, typer.Option("--notes", metavar="skip|inline|end", help="Where footnotes are read, if they are.")
    ] = "skip",
    tables: Annotated[str, typer.Option("--tables", metavar="rows|skip", help="Whether tables are read.")] = "rows",
    code: Annotated[str, typer.Option("--code", metavar="skip|read", help="Whether program text is read.")] = "skip",
    ruby: Annotated[
        str, typer.Option("--ruby", metavar="auto|base|reading", help="What is read of Japanese with readings above.")
    ] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON object with all of the text.")] = False,
) -> None:
    """Show the chapters of a book, and what of it would not be read.

    A line a chapter, with + where it is read and - where it is left out, and why. Nothing is left out silently: --json
    has every piece of text that is not read, and the reason.

    Examples:
      voxtral book plan novel.epub
      voxtral book plan handbook.epub --notes inline --depth 2
      voxtral book plan thesis.md --json
    """
    from voxtral.book import types
    from voxtral.book.reading import read_book

    modes = {"notes": types.NotesMode, "tables": types.TablesMode, "code": types.CodeMode, "ruby": types.RubyMode}
    chosen: dict[str, Any] = {"notes": notes, "tables": tables, "code": code, "ruby": ruby}
    for name, value in chosen.items():
        if value not in get_args(modes[name]):
            rule = f"must be one of {', '.join(get_args(modes[name]))}"
            raise typer.BadParameter(f"got {quoted(value)}; it {rule}", param_hint=f"--{name}")
    try:
        found = read_book(book, depth=depth, **chosen)
    except BookError as error:  # refused before any work
        raise typer.BadParameter(str(error), param_hint="BOOK") from error
    if as_json:
        show(json.dumps(_to_dict(found), ensure_ascii=False))
        return
    show(f"{one_line(found.title) or book.name} - {one_line(', '.join(found.authors)) or 'no author named'}")
    for chapter in found.chapters:
        show(_line(chapter))
    num_chars = sum(chapter.num_chars for chapter in found.chapters if chapter.is_spoken)
    show(f"{num_chars} characters are read, about {num_chars / _CHARS_PER_HOUR:.1f} hours")
    left_out = Counter(omission.why for omission in found.omissions)
    if left_out:
        show("left out within chapters: " + ", ".join(f"{count} x {why}" for why, count in left_out.most_common()))
    for warning in found.warnings[:_MOST_WARNINGS]:
        say(f"warning: {warning}")
    if len(found.warnings) > _MOST_WARNINGS:
        say(f"warning: {len(found.warnings) - _MOST_WARNINGS} more; --json lists all")


def _line(chapter: Chapter) -> str:
    title = one_line(chapter.title) or "(no title)"
    if len(title) > _MAX_TITLE:
        title = title[: _MAX_TITLE - 1] + "…"
    sign, why = ("+", "") if chapter.is_spoken else ("-", f"  ({chapter.why})")
    return f"{sign} {chapter.number:>3}  {chapter.num_chars:>7}  {'  ' * chapter.level}{title}{why}"


def _to_dict(book: Book) -> dict[str, Any]:
    return {
        "title": book.title,
        "authors": list(book.authors),
        "language": book.language,
        "chapters": [
            {
                "number": chapter.number,
                "title": chapter.title,
                "level": chapter.level,
                "is_spoken": chapter.is_spoken,
                "why": chapter.why,
                "blocks": [{"kind": block.kind, "text": block.text} for block in chapter.blocks],
            }
            for chapter in book.chapters
        ],
        "left_out": [{"text": omission.text, "why": omission.why} for omission in book.omissions],
        "warnings": list(book.warnings),
    }


COMMANDS = {"plan": plan}
