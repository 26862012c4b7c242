"""What the processes of a trial share: journals that outlive a kill, and time that passes when all wait."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from tests.torture.world import Journal, Reader, World


@pytest.fixture
def pipe() -> Iterator[tuple[int, Reader]]:
    read, write = os.pipe()
    reader = Reader(3, read)
    yield write, reader
    reader.close()


def test_a_journal_is_read_while_it_is_written(pipe: tuple[int, Reader]) -> None:
    write, reader = pipe
    note = Journal(write)
    assert reader.lines() == []
    note("begun", attempt="a")
    note("settled", attempt="a")
    assert [(line.process, line.what, line.more) for line in reader.lines()] == [
        (3, "begun", {"attempt": "a"}),
        (3, "settled", {"attempt": "a"}),
    ]
    os.close(write)


def test_a_line_that_was_being_written_at_a_kill_is_left_out(pipe: tuple[int, Reader]) -> None:
    write, reader = pipe
    Journal(write)("begun", attempt="a")
    os.write(write, b'[1.0, "settled", {"att')
    os.close(write)
    assert [line.what for line in reader.lines()] == ["begun"]


def test_a_line_in_two_pieces_is_one(pipe: tuple[int, Reader]) -> None:
    write, reader = pipe
    os.write(write, b'[1.0, "beg')
    assert reader.lines() == []
    os.write(write, b'un", {}]\n')
    assert [line.what for line in reader.lines()] == ["begun"]
    os.close(write)


def test_who_waits_says_until_when_and_goes_on_when_the_time_was_skipped() -> None:
    world, ended = World(), threading.Event()
    waiter = threading.Thread(target=world.wait, args=(5, 3600.0, ended))
    waiter.start()
    while not world.waits_until(5):
        pass
    assert world.waits_until(5) - world.now() == pytest.approx(3600, abs=5)
    world.skip(3601)
    waiter.join(5)
    assert not waiter.is_alive()
    assert world.waits_until(5) == 0


def test_a_wait_ends_with_a_stop() -> None:
    world, ended = World(), threading.Event()
    ended.set()
    world.wait(1, 3600.0, ended)
    assert world.waits_until(1) == 0


def test_clocks_that_are_put_wrong_are_wrong_beside_the_world() -> None:
    world = World(skipped=100.0)
    world.put_wrong("database", -30)
    world.put_wrong("worker", 7)
    world.put_wrong("service", 9)
    assert (world.database_ahead, world.service_ahead) == (70, 109)
    world.put_right()
    assert (world.database_ahead, world.service_ahead) == (70, 100)
