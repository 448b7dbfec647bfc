"""Ctrl-C and SIGTERM as a request to stop, which the training loop heeds between two steps."""

import os
import signal
import sys
import threading


class StopSignal:
    """While entered, the first SIGINT or SIGTERM is only remembered; a Ctrl-C after it raises KeyboardInterrupt.

    Outside of the main thread Python delivers no signals, and nothing changes.

    Attributes:
        received: number of the signal that came, None so far.
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
        # Written without Python's buffers: a handler may interrupt a print and must not enter it again.
        if sys.__stderr__ is not None:
            os.write(sys.__stderr__.fileno(), b"\nstopping after this step; Ctrl-C again aborts without saving\n")
