"""The server adapter's connection into the official client's local mode: no server, another reading
of the same API. What goes by `post` is read by the client's own models, which take no field that
the API does not have."""

from __future__ import annotations

import json
import warnings
from typing import Any

from qdrant_client import AsyncQdrantClient, models

from gateway.adapters.qdrant.connection import Connection
from gateway.config import QdrantSettings


class LocalMode(Connection):
    """Everything is in this process's memory."""

    def __init__(self, settings: QdrantSettings) -> None:
        super().__init__(settings)
        self._name = settings.collection

    def open(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it says that local mode has no payload indexes
            self._made = AsyncQdrantClient(":memory:")

    async def post(self, path: str, body: Any) -> Any:
        text = json.dumps(body)
        if path.endswith("/query/batch"):
            batch = models.QueryRequestBatch.model_validate_json(text)
            answered = await self.asked(self.client.query_batch_points(self._name, batch.searches))
            return [json.loads(each.model_dump_json()) for each in answered]
        wanted = models.PointRequest.model_validate_json(text)
        records = await self.asked(
            self.client.retrieve(self._name, wanted.ids, with_payload=wanted.with_payload or False)
        )
        return [json.loads(each.model_dump_json()) for each in records]
