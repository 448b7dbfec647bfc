"""Turns Ctrl-C and SIGTERM into exceptions, so that a command cleans up, and sees to it that neither is lost."""

import os
import signal
import sys
import threading
from types import FrameType, TracebackType

_RETRY_SECONDS = 0.05


class Terminated(BaseException):
    """SIGTERM was received. Like `KeyboardInterrupt`, it is no `Exception`, so that nothing takes it for an error."""


class Signals:
    """A context manager in which SIGINT raises `KeyboardInterrupt` and SIGTERM raises `Terminated`, once each.

    Python discards exceptions in places where it cannot raise them, such as the callbacks of other libraries during
    garbage collection, and hands them to `sys.unraisablehook`. A signal that ends there is sent again.

    Attributes:
        received: number of the latest signal, or None.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._handlers: dict[int, signal._HANDLER] = {}
        self._hook = sys.unraisablehook
        self._waiting = False

    def __enter__(self) -> "Signals":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # as `nohup` and shells set it for background jobs
                    self._handlers[number] = signal.signal(number, self._handle)
            sys.unraisablehook = self._not_discarded
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        sys.unraisablehook = self._hook

    @property
    def exit_code(self) -> int:
        """Exit code of a process that the latest signal has ended: 130 for Ctrl-C, 143 for SIGTERM."""
        return 128 + (self.received or signal.SIGINT)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = int(number)
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated

    def _send(self, number: int) -> None:
        self._waiting = False
        os.kill(os.getpid(), number)

    def _not_discarded(self, unraisable: "sys.UnraisableHookArgs") -> None:
        if isinstance(unraisable.exc_value, KeyboardInterrupt | Terminated):
            # Raised here, it would be discarded again; the main thread gets it a moment later, outside of the callback.
            if self._waiting:
                return  # one is enough: a second would interrupt the cleaning up after the first
            self._waiting = True
            number = signal.SIGINT if isinstance(unraisable.exc_value, KeyboardInterrupt) else signal.SIGTERM
            again = threading.Timer(_RETRY_SECONDS, self._send, (number,))
            again.daemon = True
            again.start()
        else:
            self._hook(unraisable)
