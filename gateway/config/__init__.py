"""Every setting: its name, meaning, default and bounds; and how it is read.

What is unknown, of a wrong type or impossible stops the start with a `SettingsError` that names
the setting, what was given and what is allowed. `config/gateway.toml` documents each setting; a
test holds the two together. A setting that is added goes to `settings`.
"""

from gateway.config.kinds import DAY_S, seconds_of
from gateway.config.loading import (
    colours_are_wanted,
    environment_and,
    extraction_prompt,
    load,
    shipped,
)
from gateway.config.settings import (
    CACHE_BYTES,
    AdminSettings,
    AppSettings,
    EmbeddingSettings,
    ExtractionSettings,
    IdentitySettings,
    LogSettings,
    MemorySettings,
    PrivacySettings,
    QdrantSettings,
    QueueSettings,
    ReceiptSettings,
    RedisSettings,
    RetentionSettings,
    Section,
    ServerSettings,
    Settings,
    UpstreamSettings,
)
from gateway.config.words import allowed, every_setting

__all__ = [
    "CACHE_BYTES",
    "DAY_S",
    "AdminSettings",
    "AppSettings",
    "EmbeddingSettings",
    "ExtractionSettings",
    "IdentitySettings",
    "LogSettings",
    "MemorySettings",
    "PrivacySettings",
    "QdrantSettings",
    "QueueSettings",
    "ReceiptSettings",
    "RedisSettings",
    "RetentionSettings",
    "Section",
    "ServerSettings",
    "Settings",
    "UpstreamSettings",
    "allowed",
    "colours_are_wanted",
    "environment_and",
    "every_setting",
    "extraction_prompt",
    "load",
    "seconds_of",
    "shipped",
]
