"""Which embedder and which extractor serve, and why: decided from settings at the start.

Every choice comes with a note for people (`doctor`, `/readyz`, the log). Vectors of two models
are never mixed: what the store holds already (`recorded`) binds the choice. Settings that ask
for another model outright stop the start; `auto` that cannot have the stored model recalls
lexically and says so.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import orjson

from gateway.adapters.data_dir import is_directory
from gateway.adapters.embed_auto import AutoEmbedder
from gateway.adapters.embed_cached import CachedEmbedder
from gateway.adapters.embed_fastembed.embedder import DEFAULT_MODEL, FastembedEmbedder, installed
from gateway.adapters.embed_none import NoEmbedder
from gateway.adapters.embed_openai import OpenAIEmbedder
from gateway.config import AppSettings, extraction_prompt
from gateway.core.errors import EmbedderUnavailable, SettingsError
from gateway.ports import Embedder, EmbeddingModel, Extractor
from gateway.telemetry.logs import without_secrets
from gateway.telemetry.metrics import Metrics

DEFAULT_OPENAI_MODEL = "text-embedding-3-small"
PROBE_S = 2.0
"""How long a start waits to learn the size of an embedding server's vectors. One that is away
does not stop the start: its size is checked with its first answer."""


async def choose_embedder(
    settings: AppSettings,
    recorded: EmbeddingModel | None,
    *,
    metrics: Metrics,
    data_dir: Path,
    threads: int | None = None,
) -> tuple[Embedder, str]:
    """The embedder that serves these settings, and a note that says which and why.

    `threads` are those of a model computed here; where nothing else needs the machine, all of
    its cores. `recorded` is the model of the vectors that the store holds, if it holds any. Raises
    SettingsError where the settings ask for another one, or for what is not installed.
    """
    _refuse_other_model(settings, recorded)
    provider = settings.embedding.provider
    if provider == "auto":
        embedder, note = _automatic(settings, recorded, data_dir, threads)
    elif provider == "openai":
        embedder, note = _over_http(settings, recorded)
    elif provider == "fastembed":
        if not installed():
            raise SettingsError(
                'embedding.provider: "fastembed" given, but it is not installed. Install'
                " memory-gateway[fastembed], or choose another provider",
                param="embedding.provider",
            )
        embedder, note = _local(settings, recorded, data_dir, threads)
    else:
        why = 'embedding.provider is "none": recall is lexical'
        embedder, note = NoEmbedder(why), why
    if isinstance(embedder, OpenAIEmbedder):
        note += await _probe(embedder, strict=provider != "auto")
    return CachedEmbedder(embedder, metrics), note


def choose_extractor(
    settings: AppSettings, *, metrics: Metrics | None = None
) -> tuple[Extractor | None, str]:
    """The extractor that serves these settings (None: nothing is distilled), and a note.

    Raises SettingsError where "openai" is asked for without a model, or the prompt cannot be read.
    """
    from gateway.adapters.extract_openai import OpenAIExtractor
    from gateway.adapters.extract_rules import RulesExtractor

    asked = settings.extraction
    # Read whoever extracts: guards know its examples, and receipts its version.
    prompt = extraction_prompt(asked.prompt)
    key = own_key(settings, asked.base_url, asked.api_key)
    if asked.provider == "none":
        return None, 'extraction.provider is "none": what is said is kept, no facts are drawn'
    if asked.provider == "openai" and asked.model is None:
        raise SettingsError(
            'extraction.model: absent, while extraction.provider is "openai"; name the model that'
            " extracts (GATEWAY_EXTRACTION__MODEL)",
            param="extraction.model",
        )
    has_key = asked.provider == "openai" or (asked.provider == "auto" and key is not None)
    if asked.model is not None and has_key:
        base_url = asked.base_url or settings.upstream.base_url
        extractor = OpenAIExtractor(
            base_url,
            api_key=key,
            model=asked.model,
            timeout_s=asked.timeout_s,
            prompt=prompt,
            metrics=metrics,
        )
        told = f", told as in {asked.prompt}" if asked.prompt is not None else ""
        return extractor, f"{asked.model} at {without_secrets(base_url)}{told}"
    note = "rules for plain statements (English; some German, Spanish and French)"
    if asked.provider == "auto":
        note += ": the fallback. Set extraction.model and a key for a language model"
    return RulesExtractor(), note


def _refuse_other_model(settings: AppSettings, recorded: EmbeddingModel | None) -> None:
    """Raises SettingsError where the settings name what the stored vectors are not."""
    if recorded is None or settings.embedding.provider == "none":
        return
    asked = settings.embedding
    provider = recorded.provider if asked.provider == "auto" else asked.provider
    name = asked.model or (recorded.name if asked.provider == "auto" else _default(provider))
    size = asked.dimensions or _size_of_files(asked.model_path, provider) or recorded.dimensions
    if EmbeddingModel(provider, name, size) != recorded:
        raise SettingsError(
            f"embedding: the settings ask for {provider} {name!r} with {size} dimensions, but the"
            f" store holds vectors of {recorded.provider} {recorded.name!r} with"
            f" {recorded.dimensions}; the two are never mixed. Run `memory-gateway reembed`"
            " to change them over, or set embedding.provider, .model and .dimensions back",
            param="embedding.dimensions" if size != recorded.dimensions else "embedding.model",
        )


def _default(provider: str) -> str:
    return DEFAULT_MODEL if provider == "fastembed" else DEFAULT_OPENAI_MODEL


def _size_of_files(model_path: Path | None, provider: str) -> int | None:
    """What a model directory says of its vectors' size, read without loading the model."""
    if model_path is None or provider != "fastembed":
        return None
    try:
        size = orjson.loads((model_path / "config.json").read_bytes()).get("hidden_size")
    except (OSError, ValueError, AttributeError):
        return None
    return size if isinstance(size, int) else None


# --- each kind -----------------------------------------------------------------------------


def _over_http(
    settings: AppSettings, recorded: EmbeddingModel | None
) -> tuple[OpenAIEmbedder, str]:
    asked = settings.embedding
    name = asked.model or (recorded.name if recorded else DEFAULT_OPENAI_MODEL)
    base_url = asked.base_url or settings.upstream.base_url
    embedder = OpenAIEmbedder(
        base_url,
        api_key=own_key(settings, asked.base_url, asked.api_key),
        model=name,
        dimensions=asked.dimensions,
        expected=recorded.dimensions if recorded else None,
        timeout_s=asked.timeout_s,
    )
    return embedder, f"{name} at {without_secrets(base_url)}"


def _local(
    settings: AppSettings,
    recorded: EmbeddingModel | None,
    data_dir: Path,
    threads: int | None,
    *,
    retry: bool = True,
) -> tuple[FastembedEmbedder, str]:
    asked = settings.embedding
    if asked.model_path is not None and not is_directory(asked.model_path):
        raise SettingsError(
            f"embedding.model_path: {asked.model_path} is no directory that this user may enter;"
            " name the one that holds model.onnx and tokenizer.json",
            param="embedding.model_path",
        )
    name = asked.model or (recorded.name if recorded else DEFAULT_MODEL)
    embedder = FastembedEmbedder(
        name,
        model_path=asked.model_path,
        cache_dir=data_dir / "models",
        expected=recorded.dimensions if recorded else None,
        threads=threads,
        retry=retry,
    )
    where = f"from {asked.model_path}" if asked.model_path else "downloaded at its first use"
    return embedder, f"{name} computed here by fastembed, {where}"


def _automatic(
    settings: AppSettings,
    recorded: EmbeddingModel | None,
    data_dir: Path,
    threads: int | None,
) -> tuple[Embedder, str]:
    """fastembed if it is installed and its model can be had, else the upstream with the
    gateway's own key, else none; of the stored vectors' kind where there are any."""
    asked = settings.embedding
    local = _speaks_of_local(settings) and (recorded is None or recorded.provider == "fastembed")
    key = own_key(settings, asked.base_url, asked.api_key)
    remote = key is not None and (recorded is None or recorded.provider == "openai")
    if local and installed():
        embedder, note = _local(settings, recorded, data_dir, threads, retry=not remote)
        if remote:
            other, _ = _over_http(settings, recorded)
            return AutoEmbedder(embedder, other), f"{note}; the upstream if that cannot be had"
        # The model of stored vectors is missed where it cannot be had; one that would only
        # have been nice is not.
        return (embedder if recorded else AutoEmbedder(embedder, None)), note
    if remote:
        return _over_http(settings, recorded)
    if recorded is not None:
        needs = "fastembed" if recorded.provider == "fastembed" else "a key for its server"
        why = (
            f"the store holds vectors of {recorded.provider} {recorded.name!r}, and {needs} is"
            " missing here: recall is lexical until it is there"
        )
    else:
        why = (
            "no embedder: fastembed is not installed and the gateway has no key of its own for"
            " the upstream's /embeddings; recall is lexical"
        )
    return NoEmbedder(why), why


def _speaks_of_local(settings: AppSettings) -> bool:
    """Whether `auto` may mean fastembed: not where a server or its key is named, nor a model
    without the slash that hub names have."""
    asked = settings.embedding
    if asked.model_path is not None:
        return True
    return (
        asked.base_url is None
        and asked.api_key is None
        and (asked.model is None or "/" in asked.model)
    )


def own_key(settings: AppSettings, base_url: str | None, api_key: object) -> str | None:
    """The gateway's key for a model server: its own, or the upstream's where it is the
    upstream. A key is never sent to another server than the one it was set for."""
    secret = api_key or (settings.upstream.api_key if base_url is None else None)
    reveal = getattr(secret, "get_secret_value", None)
    text = reveal() if reveal else None
    return text or None


async def _probe(embedder: OpenAIEmbedder, *, strict: bool) -> str:
    """Ask for one vector, so that its size is known before anything is stored.

    Raises SettingsError for a size other than the stored one, where the settings asked for
    this model outright.
    """
    try:
        async with asyncio.timeout(PROBE_S):
            await embedder.ping()
    except TimeoutError:
        return _when_asked(f"no answer within {PROBE_S:g} s")
    except EmbedderUnavailable as exc:
        if exc.code == "dimensions" and strict:
            await embedder.close()
            raise SettingsError(exc.message, param="embedding.dimensions") from exc
        return _when_asked(exc.message)
    return ""


def _when_asked(why: str) -> str:
    """The note stands beside what is so now, also long after the server has come back."""
    return f" (when it was first asked: {why}; recall is lexical until it answers)"
