"""What the client programs share: they read their targets, play every scene, and print JSON.

A program is run by an interpreter of its own, so nothing of the gateway or of the tests may be
imported here. A target is `{"run", "base_url", "user"}`; a scene is given one and returns what it
came to. What a scene raises is part of what is compared, so it is printed and not lost.
"""

from __future__ import annotations

import base64
import json
import sys
import time
import urllib.request
from collections.abc import Callable
from typing import Any

CALLS_OF_TOOLS = {"weather": "sunny", "clock": "noon"}
IMAGE = "data:image/png;base64," + base64.b64encode(bytes(range(256)) * 4).decode()
PICTURE_PARTS = [
    {"type": "text", "text": "What is this?"},
    {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
]
ASK = [
    {"role": "system", "content": "You are brief."},
    {"role": "user", "content": "Tell me something."},
]


def tool(name: str, argument: str) -> dict[str, Any]:
    """A tool in chat's shape."""
    parameters = {
        "type": "object",
        "properties": {argument: {"type": "string"}},
        "required": [argument],
        "additionalProperties": False,
    }
    return {
        "type": "function",
        "function": {"name": name, "description": f"The {name}", "parameters": parameters},
    }


TOOLS = [tool("weather", "city"), tool("clock", "zone")]

Target = dict[str, str]
Scene = Callable[[Target], Any]


def headers_of(target: Target, scene: str) -> dict[str, str]:
    """What every request of a scene carries; the memory headers where the target has a user."""
    headers = {"X-Run": target["run"]}
    if target["user"]:
        # A newcomer is another one in each scene: nothing was said that could be recalled.
        user = target["user"].replace("*", scene.replace(" ", "-"))
        headers |= {"X-Memory-User": user, "X-Memory-Session": f"{target['run']} {scene}"}
    return headers


def left(target: Target) -> bool:
    """Whether the upstream sees, within a second, that the client is gone."""
    request = urllib.request.Request(
        f"{target['base_url']}/models/left", headers={"X-Run": target["run"]}
    )
    deadline = time.monotonic() + 1
    while time.monotonic() < deadline:
        with urllib.request.urlopen(request, timeout=5) as answer:
            if json.load(answer)["left"]:
                return True
        time.sleep(0.02)
    return False


def play(scenes: dict[str, Scene]) -> None:
    """Play all scenes with each target, and print `{run: {scene: result}}`."""
    results: dict[str, dict[str, Any]] = {}
    for target in json.loads(sys.argv[1]):
        results[target["run"]] = {name: _played(scene, target) for name, scene in scenes.items()}
    print(json.dumps(results, ensure_ascii=True))


def _played(scene: Scene, target: Target) -> Any:
    try:
        return scene(target)
    except Exception as exc:  # the report of a test, whatever it was
        return {"unexpected": f"{type(exc).__name__}: {exc}"}
