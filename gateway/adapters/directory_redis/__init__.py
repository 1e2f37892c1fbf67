"""The directory of gateways that share servers: persons, links, keys and the audit, in Redis 6.2.

This is the keyring. Guard its Redis like one: it holds each owner's key in the clear, so that
who reads both it and Qdrant reads everything. Give it a Redis of its own where that matters, run
it with `appendfsync always` (a key lost in a crash takes what it sealed with it), and never
evict. Dropped keys stay in the append-only file until it is rewritten: `compact`, which a sweep
calls, asks for that.

Keys (names of users are hashed in them; `h` is a hash of app and user):

    dir:person:<h>     hash    app, user; tenant and key of the present incarnation; link: the
                               user that this one stands for
    dir:linked:<h>     set     users that were linked to this one; `link` decides
    dir:tenant:<t>     string  h of its person; `tenant` decides
    dir:apps           set     names of apps
    dir:people:<app>   zset    users, all with score 0, for listing; `tenant` decides
    dir:linking        string  lock: one link is made at a time
    dir:uncompacted    string  a key was dropped since the log was last rewritten
    dir:ended          stream  tenants that were dropped, for a week: each process lets go of
                               what it holds of them
    dir:erased         hash    receipts of erasures by id; dir:erased:order zset, newest last
    dir:erased:of:<h>  zset    those of one person, newest last
    dir:keys           hash    gateway keys by id, hashed
    dir:audit          stream  the audit: appended to, trimmed by age, never rewritten

None but the lock ends by itself. Calls on persons touch one key each, so they work in a cluster;
where two keys must agree, one of them decides and the other is only a way to find it.

What is read is kept for a second: so long a gateway key that was revoked elsewhere may still
count. An owner that was erased elsewhere in that second is stopped by the fences of queue and
state. While Redis does not answer, what it told last is gone by for a quarter of an hour: people
keep their memory, what they say goes to the disk, and gateway keys go on counting.
"""

from __future__ import annotations

from gateway.adapters.directory_redis.persons import RedisDirectory

__all__ = ["RedisDirectory"]
