"""The embedded home of memories: Qdrant Edge, in a process of its own beside the gateway.

`store` is the port as the gateway sees it; `process` runs the other process and speaks with it;
`shard` is that process and alone touches the engine.

Why another process: Edge holds Python's lock in every call. At 100,000 points of 200 users a
write of 16 points stopped all other threads for 1 ms (p99 5.5, worst 160), a flush for 33 to
1,200 ms, so that a thread would not have helped: streams would have stood still. It also keeps
a crash of a beta engine away from chats, and 200 MB out of the gateway.
"""

from gateway.adapters.qdrant_edge.store import QdrantEdgeStore

__all__ = ["QdrantEdgeStore"]
