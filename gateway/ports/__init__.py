"""The outside things, as the flows see them. Adapters implement these; nothing here acts.

Every call on a user's data has the owner (or, where only that is known, the tenant) as its
first argument. Every method may raise the `Unavailable` subclass that its Protocol names;
"unavailable" is never answered as "nothing found".

A file for each outside thing. The rooms import from `gateway.ports` itself, which also hands on
the two words of `core` that ports speak in.
"""

from gateway.core.extraction import ExtractionBatch
from gateway.core.keys import GatewayKey
from gateway.ports.deployment import Background, Clock, Deployment, Health, Services
from gateway.ports.directory import Cipher, Directory, JwksSource, KeyStore, Revocations
from gateway.ports.exchanges import DeadLetter, ExchangeQueue, Lease, QueueStatus, Spool
from gateway.ports.models import Budget, Embedder, EmbeddingModel, Extractor, Reranker
from gateway.ports.records import GROUPS, Group, GroupCounts, Receipts, Tally
from gateway.ports.state import Conversation, ConversationState, Injected, Opening
from gateway.ports.store import Lexicon, MemoryStore, Sparse, Writers
from gateway.ports.upstream import Headers, Take, Upstream, UpstreamRequest, UpstreamResponse

__all__ = [
    "GROUPS",
    "Background",
    "Budget",
    "Cipher",
    "Clock",
    "Conversation",
    "ConversationState",
    "DeadLetter",
    "Deployment",
    "Directory",
    "Embedder",
    "EmbeddingModel",
    "ExchangeQueue",
    "ExtractionBatch",
    "Extractor",
    "GatewayKey",
    "Group",
    "GroupCounts",
    "Headers",
    "Health",
    "Injected",
    "JwksSource",
    "KeyStore",
    "Lease",
    "Lexicon",
    "MemoryStore",
    "Opening",
    "QueueStatus",
    "Receipts",
    "Reranker",
    "Revocations",
    "Services",
    "Sparse",
    "Spool",
    "Take",
    "Tally",
    "Upstream",
    "UpstreamRequest",
    "UpstreamResponse",
    "Writers",
]
