"""Handling of Ctrl-C and SIGTERM as a request to stop training after the current step."""

import os
import signal
import sys
import threading


class StopSignal:
    """Context manager that records SIGINT and SIGTERM; a Ctrl-C after a recorded signal raises KeyboardInterrupt.

    It does nothing outside of the main thread, where Python does not allow signal handlers.

    Attributes:
        received: number of the latest signal, or None.
    """

    def __init__(self):
        self.received: int | None = None
        self._previous = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, error_type, error, traceback):
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number, frame):
        if self.received is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.received = int(number)
        # Bypasses Python's buffered streams, which are not reentrant: the handler may have interrupted a print.
        if sys.__stderr__ is not None:
            os.write(sys.__stderr__.fileno(), b"\nstopping after this step; Ctrl-C again aborts without saving\n")
