"""Messages between the gateway and a process of its own: each is its length (4 bytes), then itself.

Both ends of a socket pair write and cut them here, the store's process and the model's alike. What
a message says is theirs to know. Nothing is imported that a child would have to hold.
"""

from __future__ import annotations

from collections.abc import Iterator


def framed(message: bytes) -> bytes:
    """The message as it goes out."""
    return len(message).to_bytes(4, "big") + message


def cut(came: bytearray) -> Iterator[bytes]:
    """The messages that have come whole, taken out of what came; the rest stays for more."""
    while len(came) >= 4:
        end = 4 + int.from_bytes(came[:4], "big")
        if len(came) < end:
            return
        message = bytes(memoryview(came)[4:end])
        del came[:end]
        yield message
