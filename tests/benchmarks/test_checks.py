"""The pieces of what is spoken for the checks: each of them the same, whatever is there already."""

from __future__ import annotations

from pathlib import Path

from benchmarks.quality.check_cases import Job, Variant, case_path
from benchmarks.quality.checks import find_missing

VARIANTS = (Variant("good", "Yes."), Variant("other text", "No."))
JOBS = [Job(str(number), "en", "Yes.", "en_f1", 0, VARIANTS) for number in range(10)]


def test_pieces_one_after_the_other_are_all_of_the_work(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        for job in find_missing(JOBS, (number, 3), tmp_path):
            for variant in job.variants:
                case_path(tmp_path, job, variant).touch()
    assert find_missing(JOBS, (1, 1), tmp_path) == []


def test_a_job_of_which_a_variant_is_missing_is_spoken_again(tmp_path: Path) -> None:
    for job in JOBS[:4]:
        case_path(tmp_path, job, VARIANTS[0]).touch()
    case_path(tmp_path, JOBS[1], VARIANTS[1]).touch()
    assert [job.id for job in find_missing(JOBS, (2, 2), tmp_path)] == ["3", "5", "7", "9"]
