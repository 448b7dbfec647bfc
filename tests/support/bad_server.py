"""A local HTTP server of files that can break off, lie about sizes, and answer with a web page."""

import contextlib
import email.utils
import http.server
import threading
from collections.abc import Iterator


class Files(http.server.ThreadingHTTPServer):
    """Serves `content`.

    Attributes:
        content: bytes by name.
        breaks: numbers of bytes after which the next answers with content end, one after another.
        heads: whether HEAD is answered.
        ranges: whether parts of files are served.
        announced: sizes that the server states in place of the true ones, by name.
        page: whether every answer is a web page.
        requests: the `Range` header of every request, None if it had none.
    """

    def __init__(self, content: dict[str, bytes]):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content, self.breaks, self.ranges, self.page, self.heads = content, [], True, False, True
        self.announced: dict[str, int] = {}
        self.requests: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/files"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Files

    def do_HEAD(self):
        if not self.server.heads:
            return self._answer(405, b"", {})
        return self.do_GET()

    def do_GET(self):
        name = self.path.rpartition("/")[2]
        if self.command == "GET":
            self.server.requests.append((name, self.headers.get("Range")))
        if self.server.page:
            return self._answer(200, b"<!DOCTYPE html><p>Log in</p>", {"Content-Type": "text/html; charset=utf-8"})
        if name not in self.server.content:
            return self._answer(404, b"none", {})
        data, tag = self.server.content[name], f'"{hash(self.server.content[name])}"'
        start, size = 0, self.server.announced.get(name, len(data))
        wanted = self.headers.get("Range")
        headers = {"ETag": tag, "Date": email.utils.formatdate(usegmt=True)}
        if wanted and self.server.ranges and self.headers.get("If-Range") == tag:
            start = int(wanted.removeprefix("bytes=").partition("-")[0])
            headers["Content-Range"] = f"bytes {start}-{size - 1}/{size}"
            return self._answer(206, data[start:], headers, size - start)
        return self._answer(200, data, headers, size)

    def _answer(self, code: int, data: bytes, headers: dict[str, str], size: int | None = None):
        self.send_response(code)
        for name, value in {"Content-Type": "application/octet-stream", **headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if size is None else size))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.server.breaks and code in (200, 206) and len(data) > self.server.breaks[0]:
            data = data[: self.server.breaks.pop(0)]
        with contextlib.suppress(ConnectionError):
            self.wfile.write(data)

    def log_message(self, *arguments):
        """Print nothing."""


@contextlib.contextmanager
def serving(content: dict[str, bytes]) -> Iterator[Files]:
    """Serve files as long as the block runs."""
    with Files(content) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
