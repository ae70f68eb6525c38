"""`voxtral book plan`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from epubs import contents, epub, page, saved
from voxtral.cli import main

BOOK = epub(
    {
        "t.xhtml": page("<p>A Book</p>", attributes=' epub:type="titlepage"'),
        "a.xhtml": page(
            '<p>Some words.<a epub:type="noteref" href="#n">1</a></p><aside id="n" epub:type="footnote">N.</aside>'
        ),
    },
    nav=contents((0, "One", "a.xhtml"), (0, "Gone", "gone.xhtml")),
)


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    code = main.run(words)
    return code, *capsys.readouterr()


def test_the_plan_shows_chapters_and_what_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(["book", "plan", str(saved(tmp_path, BOOK))], capsys)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "A Book - Ann Author"
    assert [(line[0], line.split()[3]) for line in lines[1:3]] == [("-", "title"), ("+", "One")]
    assert "(title page)" in lines[1]
    assert "11 characters" in out
    assert "1 x note reference" in out
    assert "1 x note" in out
    assert "gone.xhtml" in err


def test_the_plan_as_json_has_all_of_the_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(["book", "plan", str(saved(tmp_path, BOOK)), "--json", "--notes", "end"], capsys)
    plan = json.loads(out)
    assert code == 0
    assert [block["text"] for block in plan["chapters"][1]["blocks"]] == ["Some words.", "N."]
    assert plan["left_out"] == [{"text": "1", "why": "note reference"}]


@pytest.mark.parametrize(
    ("words", "says"),
    [(["none.epub"], "cannot be read"), (["book.epub", "--notes", "maybe"], "must be one of skip, inline, end")],
)
def test_what_is_wrong_is_said_with_exit_2(
    words: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, BOOK)
    monkeypatch.chdir(tmp_path)
    code, _, err = run(["book", "plan", *words], capsys)
    assert code == 2
    assert says in " ".join(err.split())
