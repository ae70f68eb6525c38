"""Who comes next, who goes on, who makes room: lists and a clock, no engine."""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace

import numpy as np

from fakes import fake_request
from voxtral.engine.scheduler import Scheduler
from voxtral.engine.sequence import GenerationHandle, Sequence
from voxtral.types import AudioChunk


@dataclass(eq=False)
class StubRow:
    """What the scheduler asks of a row."""

    is_prefilled: bool
    is_exhausted: bool = False


RATE, MAX_BUFFERED = 1000, 40


def make(num_buffered: int = 0, *, is_prefilled: bool = True, deadline_s: float = math.inf) -> Sequence:
    lock = threading.RLock()
    handle = GenerationHandle(threading.Condition(lock), threading.Condition(lock))
    sequence = Sequence(replace(fake_request(), deadline_s=deadline_s), handle, None, max_buffered=MAX_BUFFERED)
    if num_buffered:
        with lock:
            sequence.push(AudioChunk(np.zeros(num_buffered, np.float32), RATE))
    sequence.row = StubRow(is_prefilled)
    return sequence


def scheduler_with(*active: Sequence) -> Scheduler:
    scheduler = Scheduler(RATE)
    for sequence in active:
        scheduler.add(sequence)
        scheduler.admit(sequence)
    return scheduler


def test_whose_readers_wait_go_first_and_whose_outbox_is_full_not_at_all() -> None:
    hungry, served, full = make(5), make(30), make(40)
    assert scheduler_with(hungry, served, full).choose_rows() == [hungry]
    assert scheduler_with(served, full).choose_rows() == [served]
    assert scheduler_with(full).choose_rows() == []


def test_prompts_and_spent_budgets_make_no_frame() -> None:
    prompt, spent = make(is_prefilled=False), make()
    spent.row = StubRow(is_prefilled=True, is_exhausted=True)
    scheduler = scheduler_with(prompt, spent)
    assert scheduler.choose_rows() == []
    assert scheduler.prompts() == [prompt]


def test_swapped_ones_come_back_before_new_ones_when_their_readers_caught_up() -> None:
    first, second, new = make(40), make(40), make()
    scheduler = scheduler_with(first, second)
    scheduler.preempt(first)
    scheduler.preempt(second)
    assert scheduler.next_to_admit() is None
    scheduler.add(new)
    assert scheduler.next_to_admit() is new
    reader = second.handle.chunks()
    next(reader)
    assert scheduler.next_to_admit() is second


def test_who_is_behind_by_the_most_makes_room() -> None:
    assert scheduler_with(make(39)).next_to_preempt() is None
    most = make(50)
    assert scheduler_with(make(41), most, make(45)).next_to_preempt() is most


def test_somebody_who_will_soon_run_dry_is_urgent() -> None:
    heard = make(30)
    first = heard.handle.stats.first_chunk_at
    assert first is not None
    scheduler = scheduler_with(heard)
    assert scheduler.is_urgent(first)  # 30 ms of audio
    heard.num_pushed = 2000
    assert not scheduler.is_urgent(first + 1.4)
    assert scheduler.is_urgent(first + 1.6)
    assert not scheduler_with(make()).is_urgent(first + 100)  # nobody hears it yet


def test_what_is_lost_is_found_wherever_it_is() -> None:
    waiting, swapped, running, well = (make(deadline_s=10), make(40, deadline_s=20), make(), make())
    scheduler = scheduler_with(swapped, running, well)
    scheduler.preempt(swapped)
    scheduler.add(waiting)
    now = waiting.handle.stats.submitted_at
    assert scheduler.take_lost(now) == []
    assert abs((scheduler.seconds_to_deadline(now) or 0) - 10) < 0.01
    running.handle.cancel()
    lost = scheduler.take_lost(swapped.deadline)
    assert sorted(map(id, lost)) == sorted(map(id, (waiting, swapped, running)))
    assert (list(scheduler.waiting), scheduler.swapped, scheduler.running) == ([], [], [well])
    assert scheduler.rows == [well.row]
    assert scheduler.sequence_of(well.admitted_row) is well
    assert scheduler.sequence_of(running.admitted_row) is None
    assert scheduler.seconds_to_deadline(now) is None


def test_there_is_work_exactly_if_somebody_can_go_on() -> None:
    full, swapped = make(40), make(40)
    scheduler = scheduler_with(full, swapped)
    scheduler.preempt(swapped)
    now = full.handle.stats.submitted_at
    assert not scheduler.has_work(now)
    reader = swapped.handle.chunks()
    next(reader)
    assert scheduler.has_work(now)
