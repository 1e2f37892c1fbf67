"""The gateways that ours is compared with, from their package registries, each in its own place.

A peer whose runtime is missing (Node, or a Python that LiteLLM takes) is left out, and said so.
Their own versions are pinned here; what they depend on is whatever their registries choose on the
day they are installed.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from bench.gateways import Process

PORTKEY = "1.15.2"
LITELLM = "1.106.2"


def portkey(port: int, work: Path, pin: set[int] | None) -> Process | None:
    """Portkey's gateway on Node; requests name their upstream in headers (`chat.lua`)."""
    home = work / "peers" / "portkey"
    start = home / "node_modules/@portkey-ai/gateway/build/start-server.js"
    if shutil.which("node") is None or shutil.which("npm") is None:
        print("Portkey is left out: node and npm were not found")
        return None
    if not start.exists():
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text(json.dumps({"private": True}))
        package = f"@portkey-ai/gateway@{PORTKEY}"
        subprocess.run(["npm", "install", "--no-audit", "--no-fund", package], cwd=home, check=True)
    return Process(
        ["node", str(start), f"--port={port}", "--headless"],
        f"http://127.0.0.1:{port}",
        log=work / "portkey.log",
        pin=pin,
    )


def litellm(port: int, upstream_url: str, work: Path, pin: set[int] | None) -> Process | None:
    """LiteLLM's proxy, one worker, without a database or logging."""
    home = work / "peers" / "litellm"
    program = home / "bin" / "litellm"
    if not program.exists():
        try:
            subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
            package = f"litellm[proxy]=={LITELLM}"
            subprocess.run([str(home / "bin/pip"), "install", "-q", package], check=True)
        except subprocess.CalledProcessError:
            shutil.rmtree(home, ignore_errors=True)
            print("LiteLLM is left out: it could not be installed")
            return None
    config = work / "litellm.yaml"
    config.write_text(
        "model_list:\n- model_name: bench\n  litellm_params:\n    model: openai/bench\n"
        f"    api_base: {upstream_url}/v1\n    api_key: sk-bench\n"
        "litellm_settings:\n  telemetry: false\n"
        # It listens on this machine alone, for as long as the run.
        "general_settings:\n  dangerously_permit_weak_or_unset_master_key: true\n"
    )
    return Process(
        [str(program), "--config", str(config), "--port", str(port), "--num_workers", "1"],
        f"http://127.0.0.1:{port}",
        environ={"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_LOG": "ERROR"},
        log=work / "litellm.log",
        pin=pin,
        ready="/health/liveliness",
    )


def bifrost() -> None:
    """Never measured, and named all the same: the list of peers is not taken for whole."""
    print(
        "Bifrost is left out: its Go module was not to be had from the module proxy"
        " where this bench was written"
    )
