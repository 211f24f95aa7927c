"""Ids of requests: no two alike, in threads and in processes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

from relay.request_ids import RequestIds


def test_no_two_are_alike() -> None:
    """Whichever thread or process counts."""
    ids = [RequestIds(), RequestIds()]
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda number: ids[number % 2].new(), range(2000)))
    assert len(set(made)) == 2000


def test_a_child_process_counts_for_itself() -> None:
    """It has a random part of its own."""
    ids = RequestIds()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, ids.new().encode())
        os._exit(0)
    os.waitpid(child, 0)
    theirs = os.read(reading, 64).decode()
    os.close(reading)
    os.close(writing)
    assert theirs[:-8] != ids.new()[:-8]
