"""What is kept of profiles for when the store is away."""

from __future__ import annotations

from dataclasses import replace

from gateway.core.memory import Memory
from gateway.flows.standing import FRESH_S, KEPT_S, StandingCache

NOW = 1_780_000_000.0
NURSE = Memory("p", "fact", "Is a nurse", NOW, NOW, NOW, type="profile")


def test_what_was_kept_holds_for_the_version_it_was_kept_with() -> None:
    cache = StandingCache()
    cache.keep("t", [NURSE], version="3", now=NOW)
    assert cache.get("t", version="3", now=NOW + KEPT_S - 1) == (NURSE,)
    assert cache.get("t", version="4", now=NOW) is None
    assert cache.get("other", version="3", now=NOW) is None


def test_it_does_not_hold_for_ever_as_a_write_may_have_been_unable_to_change_the_version() -> None:
    cache = StandingCache()
    cache.keep("t", [NURSE], version="3", now=NOW)
    assert cache.last("t", now=NOW + KEPT_S - 1) == (NURSE,)
    assert cache.get("t", version="3", now=NOW + KEPT_S + 1) is None
    assert cache.last("t", now=NOW + KEPT_S + 1) is None


def test_where_the_version_cannot_be_told_only_a_fresh_one_holds() -> None:
    cache = StandingCache()
    cache.keep("t", [NURSE], version="3", now=NOW)
    assert cache.get("t", version="", now=NOW + FRESH_S - 1) == (NURSE,)
    assert cache.get("t", version="", now=NOW + FRESH_S + 1) is None


def test_what_has_expired_meanwhile_is_left_out() -> None:
    cache = StandingCache()
    cache.keep("t", [replace(NURSE, expires_at=NOW + 5)], version="3", now=NOW)
    assert cache.get("t", version="3", now=NOW + 9) == ()


def test_the_least_used_tenant_goes_first() -> None:
    cache = StandingCache(max_tenants=2)
    for tenant in ("a", "b"):
        cache.keep(tenant, [NURSE], version="1", now=NOW)
    cache.get("a", version="1", now=NOW)
    cache.keep("c", [NURSE], version="1", now=NOW)
    assert cache.get("b", version="1", now=NOW) is None
    assert cache.get("a", version="1", now=NOW) is not None
    assert len(cache) == 2


def test_a_tenant_can_be_forgotten() -> None:
    cache = StandingCache()
    cache.keep("t", [NURSE], version="3", now=NOW)
    cache.forget("t")
    cache.forget("t")
    assert cache.get("t", version="3", now=NOW) is None
