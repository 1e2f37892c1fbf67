"""The process that holds the model: reads calls from a socket and computes vectors until it
closes.

It lives exactly as long as the gateway that started it: the end of the socket is its end,
whatever is being loaded or computed, also when the gateway was killed. Signals meant for the
gateway are not its business.

One thread computes for questions and one for documents: a long batch of documents never stands
before a question, and has the core only when nobody else wants it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from queue import SimpleQueue
from typing import Any, Final

import orjson

from gateway.adapters.frames import cut, framed

BATCH: Final = 16
"""Texts that are padded to one length and computed together."""
DOCUMENTS_NICE: Final = 10
"""Documents are computed when nobody waits for a core: who asked a question does."""


class Line:
    """Calls of one kind, in their order; who takes one back before its turn costs nothing."""

    def __init__(self) -> None:
        self._calls: dict[int, list[str]] = {}
        self._order: SimpleQueue[int] = SimpleQueue()

    def put(self, number: int, texts: list[str]) -> None:
        self._calls[number] = texts
        self._order.put(number)

    def take_back(self, number: int) -> None:
        self._calls.pop(number, None)

    def next(self) -> tuple[int, list[str]]:
        while True:
            number = self._order.get()
            texts = self._calls.pop(number, None)
            if texts is not None:
                return number, texts


class Answers:
    """The way back, shared by the threads. An answer is the call's number (4 bytes), a 1 where the
    call failed, and vectors as 32-bit floats, or JSON."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._lock = threading.Lock()

    def send(self, number: int, answer: bytes, *, failed: bool = False) -> None:
        frame = framed(number.to_bytes(4, "big") + bytes((failed,)) + answer)
        # The gateway may be gone; the next read says so and ends this process.
        with self._lock, contextlib.suppress(OSError):
            self._connection.sendall(frame)


def serve(connection: socket.socket, how: dict[str, Any]) -> None:
    """Take calls until the other side is gone. A call is JSON: a number, whether it is a question,
    and texts; or the number alone of one that is taken back."""
    questions, documents, answers = Line(), Line(), Answers(connection)
    load = threading.Thread(target=_loaded, args=(how, questions, documents, answers), daemon=True)
    load.start()
    for number, *call in _calls(connection):
        if call:
            query, texts = call
            (questions if query else documents).put(number, texts)
        else:
            questions.take_back(number)
            documents.take_back(number)


def _calls(connection: socket.socket) -> Iterator[list[Any]]:
    pending = bytearray()
    while True:
        try:
            received = connection.recv(1 << 20)
        except ConnectionResetError:
            return  # the gateway was killed before it had read all its answers
        if not received:
            return
        pending += received
        yield from map(orjson.loads, cut(pending))


# --- in threads of their own ---------------------------------------------------------------


def _loaded(how: dict[str, Any], questions: Line, documents: Line, answers: Answers) -> None:
    """Load the model, say so (or why not, and end), and compute."""
    try:
        engine = _engine(**how)
        # The files decide about the size, not the catalogue: a path may hold another model than
        # the one it is named for.
        size = len(next(iter(engine.query_embed("size"))))
    except Exception as exc:  # noqa: BLE001 - hub, ONNX and tokenizers raise anything
        answers.send(0, orjson.dumps(type(exc).__name__), failed=True)
        os._exit(1)
    answers.send(0, orjson.dumps(size))

    def computed(texts: list[str]) -> Any:
        return engine.passage_embed(texts, batch_size=BATCH)

    threading.Thread(
        target=_compute, args=(computed, documents, answers, DOCUMENTS_NICE), daemon=True
    ).start()
    _compute(engine.query_embed, questions, answers)


def _engine(
    model: str, cache_dir: str | None, model_path: str | None, threads: int
) -> Any:  # a TextEmbedding
    from fastembed import TextEmbedding

    with contextlib.suppress(ImportError):
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()
    with contextlib.suppress(ImportError):
        # fastembed writes to stderr past everybody's log; the gateway says what there is to say.
        from loguru import logger

        logger.disable("fastembed")
    return TextEmbedding(
        model, cache_dir=cache_dir, threads=threads, specific_model_path=model_path
    )


def _compute(
    computed: Callable[[list[str]], Any], line: Line, answers: Answers, nice: int = 0
) -> None:
    _step_back(nice)
    while True:
        number, texts = line.next()
        try:
            vectors = b"".join(_normalised(vector) for vector in computed(texts))
        except Exception as exc:  # noqa: BLE001 - ONNX and tokenizers raise types of their own
            answers.send(number, orjson.dumps(type(exc).__name__), failed=True)
        else:
            answers.send(number, vectors)


def _step_back(nice: int) -> None:
    """Give this thread's core to whatever else wants it: a niceness of a thread's own is Linux's.

    Beside a worker that embeds, four connections were answered 126 questions a second instead
    of 115, and on a busy machine 144 instead of 68 (p99 of one connection 15 ms instead of 36).
    """
    if nice and sys.platform == "linux":
        with contextlib.suppress(OSError):  # not allowed here: as it was
            here = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, 0, min(19, here + nice))


def _normalised(vector: Any) -> bytes:
    length = float((vector @ vector) ** 0.5)
    numbers: bytes = (vector / length if length else vector).astype("float32").tobytes()
    return numbers


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve the socket (a descriptor) with the model that the arguments tell, as JSON."""
    descriptor, how = arguments or sys.argv[1:]
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    # Else texts are cut into tokens by a pool of threads, which do not step back, and a single
    # question waits for one of them to wake.
    os.putenv("TOKENIZERS_PARALLELISM", "false")
    with socket.socket(fileno=int(descriptor)) as connection:
        serve(connection, orjson.loads(how))
    os._exit(0)  # what is being loaded or computed is for nobody
