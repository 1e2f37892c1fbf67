"""The dashboard, the alert rules and the names they rest on; names by promtool's own rules."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gateway.telemetry.metrics import Metrics

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "alerts.yaml"
RULES_TRIED = DEPLOY / "prometheus" / "tests" / "alerts.yaml"
ADAPTER = DEPLOY / "prometheus" / "adapter" / "values.yaml"
DASHBOARD = DEPLOY / "grafana" / "memory-gateway.json"
OWN = re.compile(r"\bmemory_gateway_\w+")
UNITS = ("milliseconds", "_ms", "_minutes", "_hours", "_kilobytes", "_kb", "_mb", "_percent")


def published() -> dict[str, tuple[str, str]]:
    """Every series' name as it is scraped: its kind and help."""
    found: dict[str, tuple[str, str]] = {}
    for family in Metrics().registry.collect():
        suffixes = {
            "counter": ("_total",),
            "histogram": ("_bucket", "_sum", "_count"),
        }.get(family.type, ("",))
        for suffix in suffixes:
            found[family.name + suffix] = (family.type, family.documentation)
    return found


def expressions() -> dict[str, str]:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    named = {f"alert {rule['alert']}": rule["expr"] for g in groups for rule in g["rules"]}
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", ()):
            named[f"panel {panel['title']} {target['refId']}"] = target["expr"]
    for rule in yaml.safe_load(ADAPTER.read_text())["rules"]["external"]:
        series = rule["seriesQuery"].partition("{")[0]
        named[f"adapter {rule['name']['as']}"] = rule["metricsQuery"].replace("<<.Series>>", series)
    return named


@pytest.mark.parametrize("where", sorted(expressions()))
def test_dashboard_alerts_and_adapter_ask_only_for_what_is_published(where: str) -> None:
    expression = expressions()[where]
    assert expression.count("(") == expression.count(")")
    unknown = [name for name in OWN.findall(expression) if name not in published()]
    assert not unknown


def test_names_and_units_are_as_prometheus_wants_them() -> None:
    for name, (kind, help) in published().items():
        if not name.startswith("memory_gateway_"):
            continue
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), name
        assert help, name
        assert not name.endswith(UNITS), name
        if kind != "counter":
            assert not name.endswith("_total"), name
        if kind == "gauge":
            assert not name.endswith(("_count", "_sum", "_bucket")), name


def test_every_alert_is_tried_on_series_that_raise_it() -> None:
    tried = RULES_TRIED.read_text()
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert f'alertname="{rule["alert"]}"' in tried


def test_every_alert_says_what_to_do() -> None:
    for group in yaml.safe_load(RULES.read_text())["groups"]:
        for rule in group["rules"]:
            assert {"summary", "mend"} <= rule["annotations"].keys()
            assert rule["labels"]["severity"] in ("page", "ticket")


@pytest.mark.parametrize(
    ("was", "made", "said"),
    [
        ("", "", ""),
        ("--no-worker", "--no-workers", "--no-workers"),
        ("GATEWAY_QDRANT__URL", "GATEWAY_QDRANT__ADDRESS", "GATEWAY_QDRANT__URL?"),
        ("GATEWAY_QDRANT__URL", "GATEWAY_QDRANT__API_KEY", "qdrant.url"),
    ],
    ids=["as it is", "argument", "setting", "settings together"],
)
def test_what_compose_gives_the_program_is_what_it_takes(
    tmp_path: Path, was: str, made: str, said: str
) -> None:
    """Of the chart `make check-deploy` asks the same: it needs helm."""
    composed = tmp_path / "compose.yaml"
    composed.write_text((DEPLOY / "compose.yaml").read_text().replace(was, made))
    asked = [sys.executable, DEPLOY / "rendered.py", DEPLOY / "Dockerfile", composed]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert told.returncode == bool(said)
    assert said in told.stderr


RENDERED = """
kind: ConfigMap
metadata: {name: house}
data: {GATEWAY_IDENTITY__TRUSTED_PEERS: 10.0.0.0/8}
---
kind: Deployment
metadata: {name: house}
spec:
  selector: {matchLabels: {is: pod}}
  template:
    metadata: {labels: {is: pod}}
    spec:
      containers:
        - envFrom: [configMapRef: {name: house}]
          args: [serve]
          ports: [{name: http}]
---
kind: Service
metadata: {name: house, labels: {is: service}}
spec: {selector: {is: pod}, ports: [{name: web, targetPort: http}]}
---
kind: ServiceMonitor
metadata: {name: house}
spec: {selector: {matchLabels: {is: service}}, endpoints: [{port: web}]}
"""


@pytest.mark.parametrize(
    ("was", "made", "said"),
    [
        ("", "", ""),
        ("{is: service}}, end", "{is: pod}}, end", "ServiceMonitor house: it finds no service"),
        (
            "[{port: web}]",
            "[{port: http}]",
            "ServiceMonitor house: it finds no service, or not the",
        ),
        ("{is: pod}, ports", "{is: Pod}, ports", "Service house: it finds no pods"),
        (
            "data: {",
            "data: {GATEWAY_IDENTITY__TRUSTED_PEERS: 127.0.0.1, ",
            "given twice, in line 4",
        ),
    ],
    ids=["as it is", "monitor's labels", "monitor's port", "service's labels", "key twice"],
)
def test_what_is_rendered_fits_together(tmp_path: Path, was: str, made: str, said: str) -> None:
    rendered = tmp_path / "rendered.yaml"
    assert was in RENDERED
    rendered.write_text(RENDERED.replace(was, made) if was else RENDERED)
    asked = [sys.executable, DEPLOY / "rendered.py", DEPLOY / "Dockerfile", rendered]
    told = subprocess.run(asked, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr.count("\n")) == (bool(said), bool(said))
    assert said in told.stderr


def test_what_the_workers_are_scaled_by_is_served_by_the_adapter() -> None:
    """Rendered, and with all else that the chart asks for, in `make check-deploy`."""
    chart = (DEPLOY / "kubernetes" / "templates" / "worker.yaml").read_text()
    asked = set(re.findall(r"metric: \{name: (\w+)\}", chart))
    rules = yaml.safe_load(ADAPTER.read_text())["rules"]["external"]
    assert asked == {rule["name"]["as"] for rule in rules} != set()


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on this machine")
def test_promtool_agrees() -> None:
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True)
    subprocess.run(["promtool", "test", "rules", str(RULES_TRIED)], check=True)
    figures = Metrics().render()
    subprocess.run(["promtool", "check", "metrics"], input=figures, check=True)
