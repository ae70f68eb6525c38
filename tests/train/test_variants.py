"""Made-up voices of the teacher: what their files say, and the data folder that holds them."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from train.variants import draw_variants, link_data


@given(st.integers(0, 30), st.integers(0, 2**32))
def test_variants_are_what_the_teacher_reads(count: int, seed: int) -> None:
    variants = draw_variants(count, seed)
    assert len(variants) == count
    assert draw_variants(count, seed) == variants
    assert len(set(variants.values())) == count
    for text in variants.values():
        lines = text.splitlines()
        assert lines[0] == "language variant"
        low, high = (int(value) for value in lines[2].removeprefix("pitch ").split())
        assert 60 <= low < high <= 330
        formants = [[int(value) for value in line.split()[1:]] for line in lines if line.startswith("formant ")]
        assert [formant[0] for formant in formants] == list(range(9))
        assert all(75 <= frequency <= 135 for _, frequency, _, _ in formants)
        assert all(height >= 40 and width >= 75 for _, _, height, width in formants)


def test_the_data_folder_has_the_variants_beside_those_of_the_system(tmp_path: Path) -> None:
    system = tmp_path / "system"
    for name in ("voices/!v/f2", "voices/mb/mb-en1", "lang/gmw/en", "en_dict"):
        path = system / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    data = tmp_path / "data"
    link_data(system, data, {"made_000": "language variant\n"})
    assert (data / "en_dict").read_text() == "en_dict"
    assert (data / "lang/gmw/en").read_text() == "lang/gmw/en"
    assert (data / "voices/!v/f2").read_text() == "voices/!v/f2"
    assert (data / "voices/!v/made_000").read_text() == "name made_000\nlanguage variant\n"
    assert not (data / "voices/mb").exists()
    # What the system has is as it was.
    assert [path.name for path in (system / "voices/!v").iterdir()] == ["f2"]
