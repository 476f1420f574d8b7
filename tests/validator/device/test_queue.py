"""The queue of results that nobody waits for; on a processor they are there one look later."""

from __future__ import annotations

import copy
from typing import Any

from tests.shadow.entries import make_entry
from tests.validator.device.devices import at
from validator.device.queue import DeferredQueue
from validator.device.results import HostEvent


def test_results_are_there_at_the_second_look_after_they_were_sent() -> None:
    queue = DeferredQueue()
    done: list[str] = []
    result = queue.hashes([at(make_entry(1))])[0]
    queue.when_known((done.append, "known"), result)
    queue.poll()
    assert (done, result.batch is None, queue.pending) == ([], False, True)
    queue.ship()
    queue.poll()
    assert (done, result.batch is None) == ([], False)
    queue.poll()
    assert (done, result.batch is None, queue.pending) == (["known"], True, False)


def test_reading_a_result_waits_for_it_and_runs_no_check_in_between() -> None:
    queue = DeferredQueue()
    done: list[str] = []
    one = queue.hashes([at(make_entry(1))])[0]
    queue.when_known((done.append, "one"), one)
    assert one == queue.hashes([at(make_entry(1))])[0]
    assert done == []
    queue.poll()
    assert done == ["one"]


def test_checks_run_in_the_order_of_their_operations_also_when_one_reads_a_later_result() -> None:
    queue = DeferredQueue()
    done: list[Any] = []
    one, two = (queue.hashes([at(make_entry(n))])[0] for n in (1, 2))
    queue.when_known((lambda: done.append(queue.hashes([at(make_entry(1))])[0] == one),), one)
    queue.when_known((done.append, "two"), two)
    queue.flush()
    assert done == [True, "two"]


def test_batches_are_sent_when_they_are_full_and_their_room_is_used_again() -> None:
    queue = DeferredQueue()
    made = [at(make_entry(number)) for number in range(3)]
    first = queue.hashes(made)
    results = [queue.hashes(made) for _ in range(2000)]
    assert queue.batches == 0
    queue.flush()
    assert queue.batches == 3  # 24,012 numbers, 8,192 a batch
    assert all(result == first for result in results)
    queue.hashes(made)
    queue.flush()
    assert sum(len(idle) for idle in queue._idle.values()) == 3


def test_a_deep_copy_of_a_result_is_the_result() -> None:
    result = DeferredQueue().hashes([at(make_entry(1))])[0]
    assert copy.deepcopy(result) is result


def test_the_event_of_a_processor_is_not_done_at_the_first_look() -> None:
    event = HostEvent()
    assert [event.query(), event.query()] == [False, True]
