"""The beginning and the end of an endless text, in bounded memory."""

from __future__ import annotations

HEAD, TAIL = 64 << 10, 16 << 10


class Capture:
    """Takes bytes, keeps the first `HEAD` and the last `TAIL`, counts all."""

    def __init__(self) -> None:
        self.total = 0
        self._head = bytearray()
        self._tail = bytearray()

    def feed(self, data: bytes) -> None:
        """Take more bytes."""
        self.total += len(data)
        room = HEAD - len(self._head)
        self._head += data[:room]
        self._tail += data[room:]
        del self._tail[:-TAIL]

    @property
    def text(self) -> str:
        """What was kept, with a line in between that says how much was not."""
        lost = self.total - len(self._head) - len(self._tail)
        gap = f"\n[... {lost:,} bytes left out ...]\n".encode() if lost else b""
        return (bytes(self._head) + gap + bytes(self._tail)).decode("utf-8", errors="replace")
