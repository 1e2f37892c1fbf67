"""Embeddings computed here, with a tiny real ONNX model in fastembed's layout: no hub is asked.

The model looks up a vector for each of its few words and leaves pooling to fastembed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gateway.adapters.embed_auto import AutoEmbedder
from gateway.adapters.embed_fastembed.embedder import (
    DEFAULT_MODEL,
    FastembedEmbedder,
    installed,
)
from gateway.adapters.embed_fastembed.model import DOCUMENTS_NICE, Line
from gateway.adapters.embed_none import NoEmbedder
from gateway.core.errors import EmbedderUnavailable
from gateway.ports import EmbeddingModel
from tests.adapters.tiny_model import SIZE, write_tiny_model
from tests.processes import gone


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
async def embedder(model_path: Path) -> AsyncIterator[FastembedEmbedder]:
    made = FastembedEmbedder(model_path=model_path, threads=1)
    await made.settle(30.0)
    yield made
    await made.close()


def _cosine(a: object, b: object) -> float:
    assert isinstance(a, list)
    assert isinstance(b, list)
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def test_it_is_installed_for_these_tests() -> None:
    assert installed() == (importlib.util.find_spec("fastembed") is not None) is True


async def test_texts_become_normalised_vectors_in_order(embedder: FastembedEmbedder) -> None:
    cat, dog, cats = await embedder.embed(["cat", "dog", "cat cat"])
    assert len(cat) == SIZE
    assert math.hypot(*cat) == pytest.approx(1.0, abs=1e-5)
    assert _cosine(cat, cats) == pytest.approx(1.0, abs=1e-4)
    assert _cosine(cat, dog) < 0.9


async def test_a_question_has_the_same_vector_as_its_words(embedder: FastembedEmbedder) -> None:
    (question,) = await embedder.embed(["cat"], query=True)
    (document,) = await embedder.embed(["cat"])
    assert question == pytest.approx(document, abs=1e-5)


async def test_more_texts_than_one_batch_keep_their_order(embedder: FastembedEmbedder) -> None:
    texts = ["cat", "dog"] * 20
    vectors = await embedder.embed(texts)
    assert vectors[0] == pytest.approx(vectors[38], abs=1e-5)
    assert vectors[1] == pytest.approx(vectors[39], abs=1e-5)


async def test_the_model_is_named_with_the_size_of_its_files(embedder: FastembedEmbedder) -> None:
    assert embedder.state == "ready"
    assert embedder.model == EmbeddingModel("fastembed", DEFAULT_MODEL, SIZE)
    await embedder.ping()


async def test_nothing_waits_for_the_model_to_load(model_path: Path) -> None:
    embedder = FastembedEmbedder(model_path=model_path)
    if embedder.state == "loading":
        assert embedder.model is None
        with pytest.raises(EmbedderUnavailable) as caught:
            await embedder.embed(["cat"])
        assert caught.value.code == "loading"
    await embedder.settle(30.0)
    assert len(await embedder.embed(["cat"])) == 1
    await embedder.close()


async def test_a_model_path_that_holds_no_model_says_what_it_must_hold(tmp_path: Path) -> None:
    embedder = FastembedEmbedder(model_path=tmp_path, retry=False)
    await embedder.settle(30.0)
    assert embedder.state == "failed"
    with pytest.raises(EmbedderUnavailable, match=r"must hold model\.onnx"):
        await embedder.ping()
    await embedder.close()


async def test_a_model_of_another_size_than_stored_is_not_used(model_path: Path) -> None:
    embedder = FastembedEmbedder(model_path=model_path, expected=384, retry=False)
    await embedder.settle(30.0)
    with pytest.raises(EmbedderUnavailable, match=f"{SIZE} numbers, while 384"):
        await embedder.embed(["cat"])
    assert embedder.model is None
    await embedder.close()


async def test_a_question_is_not_behind_a_long_batch_of_documents(
    embedder: FastembedEmbedder,
) -> None:
    batch = asyncio.gather(embedder.embed(["cat dog " * 200] * 400))
    await embedder.embed(["cat"], query=True)
    assert not batch.done()
    batch.cancel()
    with pytest.raises(asyncio.CancelledError):
        await batch


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all threads have one niceness")
async def test_documents_step_back_before_questions_and_requests(
    embedder: FastembedEmbedder,
) -> None:
    here = os.getpriority(os.PRIO_PROCESS, 0)

    def cpu_ns() -> tuple[int, int]:
        """What threads of this process's niceness have used, and those that step back."""
        used = {here: 0, min(19, here + DOCUMENTS_NICE): 0}
        for task in Path(f"/proc/{pid_of(embedder)}/task").iterdir():
            nice = os.getpriority(os.PRIO_PROCESS, int(task.name))
            used[nice] += int((task / "schedstat").read_text().split()[0])
        usual, back = used.values()
        return usual, back

    before = cpu_ns()
    await embedder.embed(["cat dog " * 60] * 160)
    between = cpu_ns()
    for _ in range(20):
        await embedder.embed(["cat dog " * 60], query=True)
    after = cpu_ns()
    # Both read and write the socket by a thread of the usual niceness.
    assert between[1] - before[1] > between[0] - before[0]
    assert after[1] - between[1] < after[0] - between[0]


def test_a_call_that_is_taken_back_before_its_turn_is_not_computed() -> None:
    line = Line()
    for number in (1, 2, 3):
        line.put(number, ["cat"])
    line.take_back(1)
    line.take_back(3)
    line.put(4, ["dog"])
    assert [line.next()[0], line.next()[0]] == [2, 4]


async def test_calls_whose_callers_left_are_no_harm_to_others(embedder: FastembedEmbedder) -> None:
    left = [asyncio.ensure_future(embedder.embed(["cat dog " * 100] * 16)) for _ in range(50)]
    await asyncio.sleep(0.02)
    for call in left:
        call.cancel()
    (vector,) = await embedder.embed(["cat"])
    assert vector == (await embedder.embed(["cat"], query=True))[0]
    assert sum(not call.cancelled() for call in left) < 50


async def test_half_a_character_is_no_reason_to_have_no_vector(embedder: FastembedEmbedder) -> None:
    (vector,) = await embedder.embed(["cat \ud83d"], query=True)
    assert len(vector) == SIZE


async def test_after_closing_it_is_unavailable(model_path: Path) -> None:
    embedder = FastembedEmbedder(model_path=model_path)
    await embedder.settle(30.0)
    await embedder.close()
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(["cat"])


# --- its process -----------------------------------------------------------------------------


def pid_of(embedder: FastembedEmbedder) -> int:
    assert embedder.process is not None
    return embedder.process.pid


async def test_a_process_that_dies_is_started_again_and_what_was_under_way_fails(
    embedder: FastembedEmbedder,
) -> None:
    (before,) = await embedder.embed(["cat"], query=True)
    first = pid_of(embedder)
    os.kill(first, signal.SIGSTOP)
    under_way = asyncio.ensure_future(embedder.embed(["cat"], query=True))
    await asyncio.sleep(0.05)
    os.kill(first, signal.SIGKILL)
    with pytest.raises(EmbedderUnavailable, match="has ended"):
        await under_way
    with pytest.raises(EmbedderUnavailable, match="is started again"):
        await embedder.embed(["cat"], query=True)
    assert embedder.model == EmbeddingModel("fastembed", DEFAULT_MODEL, SIZE)
    deadline = time.monotonic() + 30.0
    while embedder.state != "ready" or pid_of(embedder) == first:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    assert await embedder.embed(["cat"], query=True) == [before]


async def test_its_process_is_gone_once_it_is_closed_also_amid_loading_and_computing(
    model_path: Path,
) -> None:
    loading = FastembedEmbedder(model_path=model_path)
    while loading.process is None:
        await asyncio.sleep(0.01)
    computing = FastembedEmbedder(model_path=model_path)
    await computing.settle(30.0)
    under_way = asyncio.ensure_future(computing.embed(["cat dog " * 100] * 100_000))
    await asyncio.sleep(0.05)
    for embedder in (loading, computing):
        pid = pid_of(embedder)
        await embedder.close()
        await embedder.close()
        await gone(pid)
    with pytest.raises(EmbedderUnavailable):
        await under_way


async def test_its_process_leaves_ctrl_c_and_termination_to_the_gateway(
    embedder: FastembedEmbedder,
) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(pid_of(embedder), number)
    assert len(await embedder.embed(["cat"])) == 1
    assert os.getpgid(pid_of(embedder)) != os.getpgid(0)
    # Linux's autogroup goes by sessions: in another one niceness would count for nothing here.
    assert os.getsid(pid_of(embedder)) == os.getsid(0)


GATEWAY = """
import asyncio, sys
from pathlib import Path
from gateway.adapters.embed_fastembed.embedder import FastembedEmbedder

async def main():
    embedder = FastembedEmbedder(model_path=Path(sys.argv[1]))
    await embedder.settle(30.0)
    await embedder.embed(["cat"], query=True)
    heavy = {"fastembed", "numpy", "onnxruntime", "tokenizers"} & set(sys.modules)
    print("held", embedder.process.pid, sorted(heavy), flush=True)
    await embedder.embed(["cat dog " * 100] * 100_000)

asyncio.run(main())
"""


async def test_the_gateway_imports_nothing_of_it_and_its_process_ends_with_a_kill_9_of_the_gateway(
    model_path: Path,
) -> None:
    command = [sys.executable, "-c", GATEWAY, str(model_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        line = ""
        while not line.startswith("held"):  # after what is logged
            line = await asyncio.to_thread(other.stdout.readline)
        _, pid, heavy = line.split(maxsplit=2)
        other.kill()
    assert heavy.strip() == "[]"
    await gone(int(pid))


async def test_where_no_process_can_be_started_it_says_so(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    embedder = FastembedEmbedder(model_path=model_path, retry=False)
    await embedder.settle(30.0)
    with pytest.raises(EmbedderUnavailable, match="no process can be started"):
        await embedder.ping()
    await embedder.close()


async def test_a_process_that_ends_at_its_start_is_said_with_its_exit_status(
    model_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    embedder = FastembedEmbedder(model_path=model_path, retry=False)
    await embedder.settle(30.0)
    with pytest.raises(EmbedderUnavailable, match=r"ended at its start \(exit status 1\)"):
        await embedder.ping()
    await embedder.close()


# --- as one of two ---------------------------------------------------------------------------


async def test_auto_takes_the_local_model_once_it_is_ready(model_path: Path) -> None:
    auto = AutoEmbedder(local := FastembedEmbedder(model_path=model_path), NoEmbedder("none"))
    await local.settle(30.0)
    assert auto.model == local.model
    assert len(await auto.embed(["cat"])) == 1
    await auto.close()


async def test_auto_takes_the_other_once_the_local_model_has_failed(tmp_path: Path) -> None:
    local = FastembedEmbedder(model_path=tmp_path, retry=False)
    auto = AutoEmbedder(local, NoEmbedder("lexical only"))
    await local.settle(30.0)
    with pytest.raises(EmbedderUnavailable, match="lexical only"):
        await auto.embed(["cat"])
    with pytest.raises(EmbedderUnavailable, match="lexical only"):
        await auto.ping()
    await auto.close()


async def test_auto_without_another_is_none_for_as_long_as_the_local_model_cannot_be_had(
    tmp_path: Path,
) -> None:
    local = FastembedEmbedder(model_path=tmp_path, retry=False)
    auto = AutoEmbedder(local, None)
    await local.settle(30.0)
    assert auto.model is None
    with pytest.raises(EmbedderUnavailable, match="recall is lexical") as caught:
        await auto.ping()
    assert caught.value.code == "none"
    await auto.close()


def test_the_tiny_model_is_as_small_as_it_says(model_path: Path) -> None:
    assert json.loads((model_path / "config.json").read_text())["hidden_size"] == SIZE
    assert (model_path / "model.onnx").stat().st_size < 10_000
