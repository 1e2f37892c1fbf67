"""Which embedder serves: as set, as found, and never another one than the store's."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway import config
from gateway.adapters.embed_auto import AutoEmbedder
from gateway.adapters.embed_cached import CachedEmbedder
from gateway.adapters.embed_fastembed.embedder import DEFAULT_MODEL, FastembedEmbedder
from gateway.adapters.embed_none import NoEmbedder
from gateway.adapters.embed_openai import OpenAIEmbedder
from gateway.core.errors import EmbedderUnavailable, ExtractorUnavailable, SettingsError
from gateway.lab.scripted_upstream import ScriptedUpstream
from gateway.ports import Embedder, EmbeddingModel
from gateway.telemetry.metrics import Metrics
from gateway.wiring.models import (
    DEFAULT_OPENAI_MODEL,
    choose_embedder,
    choose_extractor,
    own_key,
)
from tests.adapters.tiny_model import SIZE, write_tiny_model

Choose = Callable[..., Awaitable[tuple[Embedder, str]]]


@pytest.fixture(scope="module")
def model_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
async def choose(tmp_path: Path) -> AsyncIterator[Choose]:
    chosen: list[Embedder] = []

    async def make(recorded: EmbeddingModel | None = None, **settings: Any) -> tuple[Embedder, str]:
        dotted = {name.replace("__", "."): value for name, value in settings.items()}
        embedder, note = await choose_embedder(
            config.load(environ={}, overrides=dotted),
            recorded,
            metrics=Metrics(),
            data_dir=tmp_path,
        )
        assert isinstance(embedder, CachedEmbedder)
        chosen.append(embedder)
        return embedder.inner, note

    yield make
    for embedder in chosen:
        await embedder.close()


@pytest.fixture
def no_fastembed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastembed", None)


def _key(upstream: ScriptedUpstream) -> dict[str, str]:
    return {"upstream__base_url": upstream.base_url, "upstream__api_key": "sk-gateways-own"}


# --- as set --------------------------------------------------------------------------------


async def test_none_is_lexical_and_says_so(choose: Choose) -> None:
    embedder, note = await choose(embedding__provider="none")
    assert isinstance(embedder, NoEmbedder)
    assert "lexical" in note


async def test_openai_without_more_is_the_upstream_with_the_gateways_key(
    choose: Choose, upstream: ScriptedUpstream
) -> None:
    embedder, note = await choose(embedding__provider="openai", **_key(upstream))
    assert embedder.model == EmbeddingModel("openai", DEFAULT_OPENAI_MODEL, 64)
    assert upstream.all[0].values("authorization") == ["Bearer sk-gateways-own"]
    assert upstream.base_url in note


async def test_the_upstreams_key_does_not_go_to_another_server(
    choose: Choose, upstream: ScriptedUpstream
) -> None:
    await choose(
        embedding__provider="openai",
        embedding__base_url=upstream.base_url,
        upstream__api_key="sk-for-the-upstream",
    )
    assert upstream.all[0].values("authorization") == []


async def test_an_embedding_server_that_is_away_does_not_stop_the_start(choose: Choose) -> None:
    embedder, note = await choose(
        embedding__provider="openai", embedding__base_url="http://127.0.0.1:9/v1"
    )
    assert isinstance(embedder, OpenAIEmbedder)
    assert "lexical until it answers" in note
    assert "(when it was first asked: " in note, "for /readyz shows it beside what is so now"


async def test_fastembed_takes_the_model_from_its_path(choose: Choose, model_path: Path) -> None:
    embedder, note = await choose(
        embedding__provider="fastembed", embedding__model_path=str(model_path)
    )
    assert isinstance(embedder, FastembedEmbedder)
    await embedder.settle(30.0)
    assert embedder.model == EmbeddingModel("fastembed", DEFAULT_MODEL, SIZE)
    assert str(model_path) in note


async def test_fastembed_that_is_not_installed_stops_the_start(
    choose: Choose, no_fastembed: None
) -> None:
    with pytest.raises(SettingsError, match=r"Install memory-gateway\[fastembed\]"):
        await choose(embedding__provider="fastembed")


@pytest.mark.parametrize("name", ["x", "x" * 300], ids=["absent", "impossible"])
async def test_a_model_path_that_is_no_directory_stops_the_start(
    choose: Choose, tmp_path: Path, name: str
) -> None:
    with pytest.raises(SettingsError, match="is no directory"):
        await choose(embedding__provider="fastembed", embedding__model_path=str(tmp_path / name))


# --- auto ----------------------------------------------------------------------------------


async def test_auto_is_fastembed_where_it_is_installed(choose: Choose, model_path: Path) -> None:
    embedder, _ = await choose(embedding__model_path=str(model_path))
    assert isinstance(embedder, AutoEmbedder)
    await embedder._local.settle(30.0)  # type: ignore[attr-defined]
    assert embedder.model == EmbeddingModel("fastembed", DEFAULT_MODEL, SIZE)


async def test_auto_without_key_and_model_is_lexical_and_says_why(
    choose: Choose, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    embedder, _ = await choose(embedding__model_path=str(tmp_path / "empty"))
    await embedder._local.settle(30.0)  # type: ignore[attr-defined]
    with pytest.raises(EmbedderUnavailable, match="recall is lexical") as caught:
        await embedder.ping()
    assert caught.value.code == "none"


async def test_the_stored_local_model_that_cannot_be_had_is_missed(
    choose: Choose, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    stored = EmbeddingModel("fastembed", DEFAULT_MODEL, SIZE)
    embedder, _ = await choose(stored, embedding__model_path=str(tmp_path / "empty"))
    assert isinstance(embedder, FastembedEmbedder)
    await embedder.settle(30.0)
    with pytest.raises(EmbedderUnavailable) as caught:
        await embedder.ping()
    assert caught.value.code == "failed"


async def test_auto_falls_back_to_the_upstream_where_the_model_cannot_be_had(
    choose: Choose, upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    embedder, note = await choose(embedding__model_path=str(tmp_path / "empty"), **_key(upstream))
    assert isinstance(embedder, AutoEmbedder)
    assert "the upstream if that cannot be had" in note
    await embedder._local.settle(30.0)  # type: ignore[attr-defined]
    assert len((await embedder.embed(["x"]))[0]) == 64


async def test_auto_without_fastembed_is_the_upstream_if_the_gateway_has_a_key(
    choose: Choose, upstream: ScriptedUpstream, no_fastembed: None
) -> None:
    embedder, _ = await choose(**_key(upstream))
    assert embedder.model == EmbeddingModel("openai", DEFAULT_OPENAI_MODEL, 64)


async def test_auto_without_fastembed_and_key_is_none(choose: Choose, no_fastembed: None) -> None:
    embedder, note = await choose()
    assert isinstance(embedder, NoEmbedder)
    assert "recall is lexical" in note


async def test_auto_with_a_server_or_its_model_named_is_that_server(
    choose: Choose, upstream: ScriptedUpstream
) -> None:
    embedder, _ = await choose(
        embedding__base_url=upstream.base_url, embedding__api_key="sk-embedding"
    )
    assert isinstance(embedder, OpenAIEmbedder)
    embedder, _ = await choose(embedding__model="text-embedding-3-large", **_key(upstream))
    assert embedder.model == EmbeddingModel("openai", "text-embedding-3-large", 64)


# --- what the store holds already ----------------------------------------------------------


async def test_the_stored_model_is_taken_up_again(
    choose: Choose, upstream: ScriptedUpstream
) -> None:
    stored = EmbeddingModel("openai", "some-model", 64)
    embedder, _ = await choose(stored, **_key(upstream))
    assert embedder.model == stored
    assert upstream.all[0].json()["model"] == "some-model"


async def test_auto_that_cannot_have_the_stored_model_is_lexical_and_says_so(
    choose: Choose, upstream: ScriptedUpstream, no_fastembed: None
) -> None:
    embedder, note = await choose(EmbeddingModel("fastembed", DEFAULT_MODEL, 384), **_key(upstream))
    assert isinstance(embedder, NoEmbedder)
    assert "the store holds vectors of fastembed" in note
    assert upstream.all == []
    embedder, note = await choose(EmbeddingModel("openai", "some-model", 64))
    assert isinstance(embedder, NoEmbedder)
    assert "a key for its server is missing" in note


@pytest.mark.parametrize(
    ("settings", "at_fault"),
    [
        ({"embedding__provider": "fastembed"}, "embedding.model"),
        ({"embedding__provider": "openai", "embedding__model": "other"}, "embedding.model"),
        ({"embedding__provider": "openai", "embedding__dimensions": 8}, "embedding.dimensions"),
        ({"embedding__dimensions": 8}, "embedding.dimensions"),
        ({"embedding__model": "other"}, "embedding.model"),
    ],
)
async def test_settings_that_ask_for_another_model_than_stored_stop_the_start(
    choose: Choose, settings: dict[str, Any], at_fault: str
) -> None:
    stored = EmbeddingModel("openai", DEFAULT_OPENAI_MODEL, 64)
    with pytest.raises(SettingsError, match=r"with 64; the two are never mixed") as caught:
        await choose(stored, **settings)
    assert caught.value.param == at_fault
    assert "memory-gateway reembed" in caught.value.message


async def test_a_model_directory_of_another_size_than_stored_stops_the_start(
    choose: Choose, model_path: Path
) -> None:
    stored = EmbeddingModel("fastembed", DEFAULT_MODEL, 384)
    with pytest.raises(SettingsError, match=f"with {SIZE} dimensions, but the store holds"):
        await choose(stored, embedding__model_path=str(model_path))


async def test_a_server_that_answers_another_size_than_stored_stops_the_start(
    choose: Choose, upstream: ScriptedUpstream
) -> None:
    stored = EmbeddingModel("openai", DEFAULT_OPENAI_MODEL, 384)
    with pytest.raises(SettingsError, match="64 numbers, while 384"):
        await choose(stored, embedding__provider="openai", **_key(upstream))


async def test_auto_on_a_server_that_answers_another_size_is_lexical_and_says_so(
    choose: Choose, upstream: ScriptedUpstream
) -> None:
    embedder, note = await choose(
        EmbeddingModel("openai", DEFAULT_OPENAI_MODEL, 384), **_key(upstream)
    )
    assert "64 numbers, while 384" in note
    with pytest.raises(EmbedderUnavailable):
        await embedder.embed(["x"])


async def test_none_is_never_in_conflict_with_what_is_stored(choose: Choose) -> None:
    stored = EmbeddingModel("openai", DEFAULT_OPENAI_MODEL, 64)
    embedder, _ = await choose(stored, embedding__provider="none")
    assert isinstance(embedder, NoEmbedder)


def test_an_own_key_is_the_upstreams_only_for_the_upstream() -> None:
    settings = config.load(environ={}, overrides={"upstream.api_key": "sk-up"})
    assert own_key(settings, None, None) == "sk-up"
    assert own_key(settings, "http://127.0.0.1:1", None) is None
    assert own_key(config.load(environ={}), None, None) is None


async def test_no_place_is_told_with_its_password(choose: Choose) -> None:
    place = "http://us:hunter2secret@127.0.0.1:9/v1"
    embedder, note = await choose(embedding__provider="openai", embedding__base_url=place)
    settings = {"extraction.provider": "openai", "extraction.model": "m"}
    extractor, drawn = choose_extractor(
        config.load(environ={}, overrides={**settings, "extraction.base_url": place})
    )
    assert extractor is not None
    with pytest.raises(EmbedderUnavailable) as embedding:
        await embedder.ping()
    with pytest.raises(ExtractorUnavailable) as extraction:
        await extractor.ping()
    for told in (note, drawn, embedding.value.message, extraction.value.message):
        assert "us:***@127.0.0.1:9" in told


# --- extraction ----------------------------------------------------------------------------


def _extractor(**settings: Any) -> tuple[str | None, str]:
    dotted = {name.replace("__", "."): value for name, value in settings.items()}
    extractor, note = choose_extractor(config.load(environ={}, overrides=dotted))
    return (extractor.name if extractor else None), note


def test_auto_extracts_by_the_upstream_if_a_key_and_a_model_are_set() -> None:
    name, note = _extractor(upstream__api_key="sk-own", extraction__model="small")
    assert name == "small"
    assert "api.openai.com" in note


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"upstream__api_key": "sk-own"},
        {"extraction__model": "small"},
        {
            "upstream__api_key": "sk-own",
            "extraction__model": "s",
            "extraction__base_url": "http://x",
        },
    ],
)
def test_auto_without_a_key_and_a_model_is_the_rules_and_says_they_are_the_fallback(
    settings: dict[str, Any],
) -> None:
    name, note = _extractor(**settings)
    assert name == "rules"
    assert "fallback" in note


def test_a_model_without_a_key_may_be_asked_for_outright() -> None:
    name, _ = _extractor(
        extraction__provider="openai", extraction__model="s", extraction__base_url="http://x"
    )
    assert name == "s"


def test_rules_and_none_are_what_they_say() -> None:
    assert _extractor(extraction__provider="rules", extraction__model="s")[0] == "rules"
    name, note = _extractor(extraction__provider="none")
    assert name is None
    assert "no facts are drawn" in note


def test_openai_without_a_model_stops_the_start() -> None:
    with pytest.raises(SettingsError, match="GATEWAY_EXTRACTION__MODEL"):
        _extractor(extraction__provider="openai")


def test_words_of_ones_own_tell_the_extracting_model_and_are_read_at_the_start(
    tmp_path: Path,
) -> None:
    asked = {"upstream__api_key": "sk-own", "extraction__model": "small"}
    words = tmp_path / "words.md"
    with pytest.raises(SettingsError, match=r"extraction\.prompt: .*words\.md cannot be read"):
        _extractor(**asked, extraction__prompt=str(words))
    with pytest.raises(SettingsError, match="cannot be read"):
        _extractor(extraction__provider="rules", extraction__prompt=str(words))
    words.write_text("Draw only allergies.")
    with pytest.raises(SettingsError, match="cannot be read"):
        _extractor(**asked, extraction__prompt=str(tmp_path))
    _, note = _extractor(**asked, extraction__prompt=str(words))
    assert note.endswith(f"told as in {words}")
