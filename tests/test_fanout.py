"""Many at once, in order, stoppable, and never holding a process up."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamplighter.engine.fanout import FanOut, contained, unexpected


@given(st.lists(st.integers(), max_size=30), st.integers(-1, 8))
def test_every_item_is_worked_on_once_and_answers_in_its_place(items: list[int], parallel: int) -> None:
    seen: list[int] = []
    assert FanOut(lambda item: (seen.append(item), item * 2)[1], items, parallel, "t").run() == [
        item * 2 for item in items
    ]
    assert sorted(seen) == sorted(items)


def test_no_more_than_asked_for_at_once() -> None:
    lock, now, most = threading.Lock(), [0], [0]

    def work(_: int) -> None:
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.005)
        with lock:
            now[0] -= 1

    FanOut(work, range(40), 7, "t").run()
    assert most[0] == 7


def test_after_an_error_nothing_more_is_begun_and_what_runs_is_waited_for() -> None:
    begun: list[int] = []
    release = threading.Event()

    def work(item: int) -> None:
        begun.append(item)
        if item == 1:
            raise ZeroDivisionError
        release.wait(10)

    crew = FanOut(work, range(50), 3, "t")
    with pytest.raises(ZeroDivisionError):
        crew.run()
    assert not crew.drain(0.05), "two of them hang"
    release.set()
    assert crew.drain(5)
    assert len(begun) <= 4


def test_a_signal_in_the_asking_thread_stops_the_rest() -> None:
    begun: list[int] = []

    def work(item: int) -> None:
        begun.append(item)
        time.sleep(0.4)

    def tick() -> None:
        raise KeyboardInterrupt

    crew = FanOut(work, range(50), 2, "t")
    with pytest.raises(KeyboardInterrupt):
        crew.run(tick)
    assert crew.drain(5)
    assert len(begun) <= 6


def test_a_hung_thread_does_not_keep_the_process() -> None:
    program = (
        "import threading\nfrom lamplighter.engine.fanout import FanOut\n"
        "def tick(): raise KeyboardInterrupt\n"
        "crew = FanOut(lambda _: threading.Event().wait(60), range(3), 3, 't')\n"
        "try: crew.run(tick)\nexcept KeyboardInterrupt: print(crew.drain(0.1))\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    assert done.stdout == "False\n"


def test_a_display_that_fails_is_only_logged(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> None:
        raise ConnectionError("a secret address")

    contained(broken)
    assert "progress cannot be shown: ConnectionError" in caplog.text
    assert "secret" not in caplog.text
    with pytest.raises(KeyboardInterrupt):
        contained(interrupt)


def interrupt() -> None:
    raise KeyboardInterrupt


def test_a_bug_is_logged_with_its_place_and_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    try:
        {}["password=hunter2"]
    except KeyError as error:
        told = unexpected(error)
    assert told.startswith("unexpected KeyError; this is a bug in the runbook")
    assert "test_fanout.py" in caplog.text
    assert "password=hunter2" not in told
