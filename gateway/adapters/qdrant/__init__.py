"""Qdrant, in its two homes: a server or cluster, and embedded (Qdrant Edge).

`store` is the port: what needs a key or a word, the same for both. `engine` is the little that
it asks of Qdrant. `server` has it from a server (`connection` reaches it, `collection` is laid out
there, `filters` says whose points are meant), `edge` from a process beside the gateway (`process`
runs it, `shard` is it, the one `holder` of its directory). `opened` keeps opened memories, and
`sent` is what the shard knows of them.

Why Edge has a process of its own: it holds Python's lock in every call. At 100,000 points of
200 users a write of 16 points stopped all other threads for 1 ms (p99 5.5, worst 160) and a
flush for 33 to 1,200 ms, so that a thread would not have helped: streams would have stood still.
It also keeps a crash of a beta engine away from chats, and 200 MB out of the gateway.

This file imports nothing: the shard's process starts from here and has to be small.
"""
