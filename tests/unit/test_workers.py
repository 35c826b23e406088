"""A pool that bounds what waits and stops at the first error."""

from __future__ import annotations

import os
import threading

import pytest

from puzzlefs.errors import UsageError
from puzzlefs.workers import Workers, thread_count


def test_every_task_runs() -> None:
    done: list[int] = []
    with Workers(3) as workers:
        for number in range(100):
            workers.start(lambda number=number: done.append(number), lambda: None)  # type: ignore[misc]
    assert sorted(done) == list(range(100))


def test_no_more_waits_than_there_is_room_for() -> None:
    """With one thread held up, four tasks are taken and the fifth waits for it."""
    gate = threading.Event()
    taken: list[int] = []

    def give() -> None:
        with Workers(1) as workers:
            for number in range(5):
                workers.start(gate.wait, lambda: None)
                taken.append(number)

    owner = threading.Thread(target=give)
    owner.start()
    owner.join(0.3)
    assert taken == [0, 1, 2, 3]
    gate.set()
    owner.join(10)
    assert taken == [0, 1, 2, 3, 4]


def test_number_of_threads() -> None:
    processors = len(os.sched_getaffinity(0))
    assert [thread_count(jobs) for jobs in (None, 0, 1, 99)] == [processors, processors, 1, 99]
    assert thread_count(None, 1) == 1
    with pytest.raises(UsageError, match="-1 jobs"):
        thread_count(-1)


def fail() -> None:
    raise ValueError("task")


def test_error_of_the_last_task_is_raised() -> None:
    with pytest.raises(ValueError, match="task"), Workers(1) as workers:
        workers.start(fail, lambda: None)


def test_error_stops_the_rest_and_abandons_each_that_did_not_run() -> None:
    ran: list[int] = []
    abandoned: list[int] = []
    with pytest.raises(ValueError, match="task"), Workers(2) as workers:
        workers.start(fail, lambda: None)
        for number in range(1000):
            workers.start(
                lambda number=number: ran.append(number),  # type: ignore[misc]
                lambda number=number: abandoned.append(number),  # type: ignore[misc]
            )
    assert len(abandoned) >= 1
    assert sorted(ran + abandoned) == list(range(len(ran) + len(abandoned)))


def test_error_of_the_owner_abandons_what_waits() -> None:
    gate = threading.Event()
    abandoned: list[int] = []
    with pytest.raises(KeyboardInterrupt), Workers(1) as workers:
        workers.start(gate.wait, lambda: None)
        for number in range(3):
            workers.start(lambda: None, lambda number=number: abandoned.append(number))  # type: ignore[misc]
        threading.Timer(0.2, gate.set).start()
        raise KeyboardInterrupt
    assert sorted(abandoned) == [0, 1, 2]
