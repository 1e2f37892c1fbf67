"""What the gateway's own API answers, as JSON schemas; what it takes are models, in `schemas`."""

from __future__ import annotations

from typing import Any

from gateway.core.memory import EVENTS, KINDS, TYPES, VIAS
from gateway.core.records import STATUSES

_TIME = {"type": "string", "format": "date-time"}
_MEMORY = {
    "type": "object",
    "required": [
        *("id", "user", "app", "kind", "text", "importance", "pinned", "status"),
        *("created_at", "updated_at", "valid_from", "source", "metadata"),
    ],
    "properties": {
        "id": {"type": "string"},
        "user": {"type": "string"},
        "app": {"type": "string"},
        "kind": {"enum": [*KINDS]},
        "type": {"enum": [*TYPES]},
        "key": {"type": "string"},
        "value": {"type": "string"},
        "text": {"type": "string"},
        "importance": {"type": "number", "minimum": 0, "maximum": 1},
        "pinned": {"type": "boolean"},
        # Forgotten: what a call with an Idempotency-Key made, and is no more when it is repeated.
        "status": {"enum": [*STATUSES]},
        "created_at": _TIME,
        "updated_at": _TIME,
        "valid_from": _TIME,
        "valid_to": _TIME,
        "expires_at": _TIME,
        "superseded_by": {"type": "string"},
        "supersedes": {"type": "string"},
        "source": {
            "type": "object",
            "required": ["role", "via"],
            "properties": {
                "exchange_id": {"type": "string"},
                "session": {"type": "string"},
                "role": {"type": "string"},
                "quote": {"type": "string"},
                "via": {"enum": [*VIAS]},
            },
        },
        "metadata": {"type": "object"},
    },
}
_VERSION = {
    "type": "object",
    "required": ["id", "at", "event", "text", "key", "value", "via", "current"],
    "properties": {
        "id": {"type": "string"},
        "at": _TIME,
        "event": {"enum": [*EVENTS]},
        "text": {"type": ["string", "null"]},
        "key": {"type": ["string", "null"]},
        "value": {"type": ["string", "null"]},
        "via": {"enum": [*VIAS]},
        "current": {"type": "boolean"},
        "status": {"enum": [*STATUSES]},
        "superseded_by": {"type": "string"},
        "superseded_at": _TIME,
    },
}


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


ANSWERS: dict[str, dict[str, Any]] = {
    "Memory": _MEMORY,
    "Version": _VERSION,
    "Stored": {
        "type": "object",
        "required": ["memories"],
        "properties": {"memories": {"type": "array", "items": ref("Memory")}},
    },
    "MemoryPage": {
        "type": "object",
        "required": ["memories", "next_cursor"],
        "properties": {
            "memories": {"type": "array", "items": ref("Memory")},
            "next_cursor": {"type": ["string", "null"]},
        },
    },
    "SearchResults": {
        "type": "object",
        "required": ["results"],
        "properties": {
            "results": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["memory", "score", "why"],
                    "properties": {
                        "memory": ref("Memory"),
                        "score": {"type": "number"},
                        "why": {"type": "object", "additionalProperties": {"type": "number"}},
                    },
                },
            }
        },
    },
    "History": {
        "type": "object",
        "required": ["versions"],
        "properties": {"versions": {"type": "array", "items": ref("Version")}},
    },
    "Accepted": {
        "type": "object",
        "required": ["accepted", "duplicates", "dropped", "exchange_ids"],
        "properties": {
            "accepted": {"type": "integer"},
            "duplicates": {"type": "integer"},
            "dropped": {"type": "array", "items": {"type": "string"}},
            "exchange_ids": {"type": "array", "items": {"type": "string"}},
        },
    },
    "Imported": {
        "type": "object",
        "required": ["imported", "left_out"],
        "properties": {"imported": {"type": "integer"}, "left_out": {"type": "integer"}},
    },
    "Erasure": {
        "type": "object",
        "required": ["id", "completed"],
        "properties": {
            "id": {"type": "string"},
            "completed": {"type": "boolean"},
            "counts": {"type": "object", "additionalProperties": {"type": "integer"}},
            "remaining": {"type": "object", "additionalProperties": {"type": "integer"}},
        },
    },
    "Receipts": {
        "type": "object",
        "required": ["receipts"],
        "properties": {"receipts": {"type": "array", "items": {"type": "object"}}},
    },
    "Receipt": {"type": "object"},
    "Lines": {"type": "string"},
    "Object": {"type": "object"},
    "Error": {
        "type": "object",
        "required": ["error"],
        "properties": {
            "error": {
                "type": "object",
                "required": ["message", "type", "param", "code"],
                "properties": {
                    "message": {"type": "string"},
                    "type": {"type": "string"},
                    "param": {"type": ["string", "null"]},
                    "code": {"type": ["string", "null"]},
                },
            }
        },
    },
}
