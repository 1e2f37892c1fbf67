"""Content codings (RFC 9110, 8.4): compressed bodies to plain ones, never more than a limit.

Clients may compress what they send, and upstreams what they answer (the relay passes that on
as it came; only the copy that is remembered is unpacked). A small body can unpack to
gigabytes, so that every decoder here is asked for at most one byte over the limit. Pure, and
in the CPU's time: large bodies belong in a thread.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable

import brotli
import zstandard

from gateway.core.errors import BadRequest, TooLarge, UnsupportedMedia

ZSTD_WINDOW_BYTES = 2**27
"""The largest window that a zstd frame may ask for (what the zstd tool itself allows)."""
MAX_CODINGS = 3
"""How often a body may have been packed. Each time it may unpack to the limit anew: in 1,000
wrappings, for which a head has room, 7 kB were unpacked for a quarter of a minute."""
PIECE_BYTES = 4096
"""What a gzip reader is given at once: it copies all that stands behind a member's end. Given a
body whole, of 32 MiB in members of 20 bytes, it copied for seven minutes."""


def codings(header: str) -> tuple[str, ...]:
    """The codings of a `Content-Encoding` value in the order they were applied; without
    `identity`."""
    names = (name.strip().lower() for name in header.split(","))
    return tuple(name for name in names if name not in ("", "identity"))


def can_decode(names: tuple[str, ...]) -> bool:
    return len(names) <= MAX_CODINGS and all(name in _DECODERS for name in names)


def decode(body: bytes, names: tuple[str, ...], limit: int, *, whole: bool = True) -> bytes:
    """The plain body.

    `whole=False` reads what there is of a body that was cut off. Raises UnsupportedMedia for a
    coding that is not read here and for more than `MAX_CODINGS`, TooLarge over `limit` bytes,
    BadRequest where it is damaged.
    """
    if not can_decode(names):
        raise UnsupportedMedia(
            f"Content-Encoding {', '.join(names)[:80]!r} is not read here. Send the body as it"
            f" is, or packed once, as one of {', '.join(sorted(_DECODERS))}.",
            param="Content-Encoding",
            code="unsupported_encoding",
        )
    for name in reversed(names):
        try:
            body, complete = _DECODERS[name](body, limit + 1)
        except (zlib.error, brotli.error, zstandard.ZstdError) as exc:
            raise _damaged(name) from exc
        if len(body) > limit:
            raise TooLarge(
                f"The body unpacks to more than {limit} bytes. Send less, or raise"
                " server.max_body_bytes.",
                code="body_too_large",
            )
        if whole and not complete:
            raise _damaged(name)
    return body


def _damaged(name: str) -> BadRequest:
    return BadRequest(
        f"The body is not {name} as Content-Encoding says, or was cut short.",
        param="Content-Encoding",
        code="invalid_encoding",
    )


def _gzip(body: bytes, most: int) -> tuple[bytes, bool]:
    """gzip, in one or several members. With and without zlib's wrapping, for `deflate`."""
    parts: list[bytes] = []
    length = 0
    reader = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, told by its first bytes
    for at in range(0, len(body), PIECE_BYTES):
        piece = body[at : at + PIECE_BYTES]
        while piece and length < most:
            if reader.eof:
                reader = zlib.decompressobj(wbits=47)
            part = reader.decompress(piece, most - length)
            parts.append(part)
            length += len(part)
            piece = reader.unused_data
    return b"".join(parts), reader.eof


def _deflate(body: bytes, most: int) -> tuple[bytes, bool]:
    try:
        return _gzip(body, most)
    except zlib.error:
        # Raw, without the wrapping that the RFC asks for: some clients send it so.
        reader = zlib.decompressobj(wbits=-15)
        return reader.decompress(body, most), reader.eof


def _brotli(body: bytes, most: int) -> tuple[bytes, bool]:
    reader = brotli.Decompressor()
    plain = reader.process(body, output_buffer_limit=most)
    return plain, reader.is_finished()


def _zstd(body: bytes, most: int) -> tuple[bytes, bool]:
    reader = zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW_BYTES)
    with reader.stream_reader(body, read_across_frames=True) as stream:
        plain = stream.read(most)
    return plain, True  # the reader does not tell a frame that was cut short from a whole one


_DECODERS: dict[str, Callable[[bytes, int], tuple[bytes, bool]]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "br": _brotli,
    "zstd": _zstd,
}
