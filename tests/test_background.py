"""Reading ahead and writing behind: order, bounds, errors of the thread, and what is left out after an error."""

import threading

import pytest

from vidcomp_jax.background import WriteBehind, read_ahead


def counted(count, read, closed=None, error=None):
    try:
        for i in range(count):
            read.append(i)
            yield i
        if error is not None:
            raise error
    finally:
        if closed is not None:
            closed.append(threading.current_thread())


@pytest.mark.parametrize("depth", [1, 3])
def test_reads_in_order_and_no_further_ahead_than_allowed(depth):
    read = []
    for done, item in enumerate(read_ahead(counted(20, read), depth), 1):
        assert item == done - 1
        assert len(read) <= done + depth
    assert done == 20
    assert not list(read_ahead([]))


def test_reads_while_the_caller_works():
    read = threading.Event()

    def items():
        yield 0
        read.set()
        yield 1

    stream = read_ahead(items())
    assert next(stream) == 0
    assert read.wait(10)
    assert list(stream) == [1]


def test_an_error_is_raised_in_its_place():
    found = []
    with pytest.raises(OSError, match="damaged"):
        found.extend(read_ahead(counted(3, [], error=OSError("damaged"))))
    assert found == [0, 1, 2]


def test_closing_stops_reading_and_closes_what_is_read():
    read, closed = [], []
    stream = read_ahead(counted(1000, read, closed))
    assert next(stream) == 0
    stream.close()
    assert len(read) <= 3 and closed == [threading.main_thread()]
    assert not [thread for thread in threading.enumerate() if "read_ahead" in thread.name]


def test_calls_are_made_in_order_in_one_thread():
    made = []
    with WriteBehind() as behind:
        for i in range(20):
            behind(lambda i: made.append((i, threading.current_thread().name)), i)
    assert [i for i, _ in made] == list(range(20))
    assert len({name for _, name in made}) == 1 and "write_behind" in made[0][1]
    assert not [thread for thread in threading.enumerate() if "write_behind" in thread.name]


def test_the_caller_waits_for_outstanding_calls():
    may_go, begun, waiting = threading.Event(), threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert may_go.wait(10)

    def give_three():
        with WriteBehind(depth=2) as behind:
            behind(slow)
            behind(slow)
            waiting.set()
            behind(slow)
            given.append(3)

    given = []
    thread = threading.Thread(target=give_three)
    thread.start()
    assert begun.wait(10) and waiting.wait(10)
    thread.join(0.1)
    assert not given
    may_go.set()
    thread.join(10)
    assert given == [3]


def fail():
    raise OSError("the disk is full")


def test_an_error_of_a_call_is_raised_at_the_next_use_or_at_the_end():
    made = []
    with pytest.raises(OSError, match="disk is full"), WriteBehind() as behind:
        behind(fail)
        behind(made.append, 1)
    with pytest.raises(OSError, match="disk is full"), WriteBehind() as behind:
        behind(fail)
        for i in range(100):
            behind(made.append, i)
        made.append("went on")
    assert not made


def test_after_an_error_of_the_block_no_call_begins():
    made, may_go, begun = [], threading.Event(), threading.Event()

    def slow():
        begun.set()
        assert may_go.wait(10)
        made.append("running")

    def end_block():
        with WriteBehind() as behind:
            behind(slow)
            behind(made.append, "waiting")
            assert begun.wait(10)
            threading.Timer(0.2, may_go.set).start()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        end_block()
    assert made == ["running"]
