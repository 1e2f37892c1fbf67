"""The gateway's own API is as `/openapi.json` describes it, whatever is sent to it.

Requests are made from the description: good ones, and ones that break it. The seed is fixed,
so a run is the same everywhere; a failure prints the request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from gateway.lab.scripted_upstream import ScriptedUpstream
from gateway.web.openapi import document
from tests.gateway_process import GatewayProcess


@schemathesis.serializer("application/x-ndjson")
def lines(_: schemathesis.SerializationContext, value: Any) -> bytes:
    """A text is lines as it is; what is none breaks the description, as JSON."""
    return (
        value.encode("utf-8", "replace") if isinstance(value, str) else json.dumps(value).encode()
    )


TOKEN = "an-admin-token-for-tests"
LARGE = 10_000


def without_large_bounds(part: Any) -> Any:
    """The description less its bounds of size: megabytes are not generated here."""
    if isinstance(part, list):
        return [without_large_bounds(one) for one in part]
    if not isinstance(part, dict):
        return part
    return {
        name: without_large_bounds(value)
        for name, value in part.items()
        if not (name == "maxItems" or (name == "maxLength" and value > LARGE))
    }


schema = schemathesis.openapi.from_dict(
    without_large_bounds(document()),
    # What is given here is never left out of a request: that is tested elsewhere.
    config=schemathesis.Config.from_dict({"headers": {"Authorization": f"Bearer {TOKEN}"}}),
)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    data_dir = tmp_path_factory.mktemp("openapi") / "data"
    # Wrong tokens are sent on purpose, more in a minute than the brake on guessing lets by.
    more = {"admin__token": TOKEN, "server__wrong_credentials_per_minute": 100_000}
    with (
        ScriptedUpstream() as upstream,
        GatewayProcess(data_dir, upstream.base_url, **more) as gateway,
    ):
        yield gateway


# The two that reach out of the gateway by what their body says (another embedder, a directory to
# write) have tests of their own: made-up bodies would name what is not there to be asked.
@schema.exclude(path_regex="^/admin/v1/(reembed|backup)$", method="POST").parametrize()
@settings(
    max_examples=8,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
def test_each_operation_answers_as_it_is_described(
    case: schemathesis.Case, served: GatewayProcess
) -> None:
    case.call_and_validate(
        base_url=served.url,
        # Some rules bind two fields together, which a schema cannot say.
        excluded_checks=[positive_data_acceptance],
        timeout=10,
    )
