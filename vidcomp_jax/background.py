"""Reading and writing beside the computation: each in a thread of its own, a few items ahead or behind.

Memory does not grow with the number of items. An error in the thread is raised where the items are used.
"""

import collections
import concurrent.futures
from collections.abc import Callable, Generator, Iterable
from types import TracebackType
from typing import Any, TypeVar

Item = TypeVar("Item")

_END: Any = object()


def read_ahead(items: Iterable[Item], depth: int = 1) -> Generator[Item, None, None]:
    """Yield `items`, of which a thread reads up to `depth` before they are asked for.

    An exception of `items` is raised in the place of the item. Closing the generator waits for the item being read, and
    closes `items` if that is a generator.
    """
    iterator = iter(items)
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="read_ahead")
    try:
        ahead = collections.deque(pool.submit(next, iterator, _END) for _ in range(depth))
        while (item := ahead.popleft().result()) is not _END:
            ahead.append(pool.submit(next, iterator, _END))
            yield item
    finally:
        pool.shutdown(cancel_futures=True)
        if isinstance(iterator, Generator):
            iterator.close()


class WriteBehind:
    """A context manager that makes calls in a thread, one after another, while the caller goes on.

    The caller waits while `depth` calls are outstanding. After a call has raised an exception, no other is made, and
    the next use, or the end of the `with` block, raises it. If the block ends with an error of its own, the calls that
    have not begun are left out.
    """

    def __init__(self, depth: int = 2):
        self._depth = depth
        self._failed = False
        self._outstanding: collections.deque[concurrent.futures.Future] = collections.deque()
        self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="write_behind")

    def __call__(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call `function(*arguments)` after all earlier calls."""
        while self._outstanding and (self._outstanding[0].done() or len(self._outstanding) >= self._depth):
            self._outstanding.popleft().result()
        self._outstanding.append(self._pool.submit(self._run, function, arguments))

    def __enter__(self) -> "WriteBehind":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            while kind is None and self._outstanding:
                self._outstanding.popleft().result()
        finally:
            self._pool.shutdown(cancel_futures=True)

    def _run(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        if self._failed:
            return
        try:
            function(*arguments)
        except BaseException:
            self._failed = True
            raise
