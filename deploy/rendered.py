"""Whether what is deployed fits together, and whether the program takes what it is given there.

`rendered.py DOCKERFILE FILE…` reads a rendered chart or a compose file, beside the image's own
settings: does the program start with these settings and arguments, is no key given twice, and does
what selects, scales, asks, scrapes or routes to pods find them, and where it looks? Each fault is a
line; exit 1 if there is any.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import yaml

from gateway import config
from gateway.cli import parser
from gateway.core.errors import SettingsError

ADAPTER = Path(__file__).parent / "prometheus" / "adapter" / "values.yaml"
IN_IMAGE = re.compile(r"(GATEWAY_\w+)=(\S+)")
FILLED_IN = re.compile(r"\$\{\w+:-([^}]*)\}")
IMAGE = "memory-gateway"
ASKED = {"/healthz", "/readyz"}
Labels = Mapping[str, str]
Object = dict[str, Any]


def main(dockerfile: Path, *files: Path) -> int:
    image = dict(IN_IMAGE.findall(dockerfile.read_text()))
    faults = 0
    for file in files:
        try:
            objects = [each for each in yaml.load_all(file.read_text(), _Once) if each]
        except yaml.constructor.ConstructorError as exc:
            print(f"{file.name}: {exc.problem}, in line {_line(exc)}", file=sys.stderr)
            faults += 1
            continue
        composed = "services" in objects[0]
        told = _of_compose(objects[0], image) if composed else _of_chart(objects, image)
        said = list(dict.fromkeys(told))  # what two containers have in common is one fault
        for line in said:
            print(f"{file.name}: {line}", file=sys.stderr)
        if not said:
            print(f"{file.name}: its settings and arguments are taken, and all fits together")
        faults += len(said)
    return 1 if faults else 0


class _Once(yaml.SafeLoader):
    """YAML whose keys stand once: of two the last would count, and the API server refuses them."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Object:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen and key.value != "<<":
                problem = f"{key.value} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _line(exc: yaml.constructor.ConstructorError) -> int:
    return exc.problem_mark.line + 1 if exc.problem_mark else 0


def _of_compose(project: Object, image: Labels) -> Iterator[str]:
    for service in project["services"].values():
        if service["image"] == IMAGE:
            given = {k: FILLED_IN.sub(r"\1", str(v)) for k, v in service["environment"].items()}
            yield from _refused({**image, **given}, service["command"])


def _of_chart(objects: list[Object], image: Labels) -> Iterator[str]:
    kinds: dict[str, dict[str, Object]] = {}
    for each in objects:
        kinds.setdefault(each["kind"], {})[each["metadata"]["name"]] = each
    pods = {name: each["spec"]["template"] for name, each in kinds["Deployment"].items()}
    for name, deployment in kinds["Deployment"].items():
        if not _has(pods[name], deployment["spec"]["selector"]["matchLabels"]):
            yield f"{name}: its selector is not of its own pods"
        for container in pods[name]["spec"]["containers"]:
            given = dict(image)
            for source in container["envFrom"]:
                if reference := source.get("configMapRef"):
                    known = kinds["ConfigMap"].get(reference["name"])
                    if known is None:
                        yield f"{name}: there is no ConfigMap {reference['name']!r}"
                    given |= known["data"] if known else {}
            yield from _refused(given, container["args"])
            yield from _asked_amiss(name, container)
    yield from _finds_no_pods(objects, pods)
    yield from _finds_no_service(objects)
    for name, each in kinds.get("HorizontalPodAutoscaler", {}).items():
        if each["spec"]["scaleTargetRef"]["name"] not in pods:
            yield f"{name}: there is no deployment that it could scale"
        yield from _not_served(name, each)
    for name, each in kinds.get("Ingress", {}).items():
        for rule in each["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                to = path["backend"]["service"]
                service = kinds["Service"].get(to["name"], {"spec": {"ports": []}})
                if to["port"]["name"] not in {port["name"] for port in service["spec"]["ports"]}:
                    yield f"{name}: there is no such service, or no such port of it"


def _refused(environ: Labels, arguments: list[str]) -> Iterator[str]:
    """What the program says at a start with these settings and arguments."""
    try:
        config.load(environ={k: v for k, v in environ.items() if k.startswith("GATEWAY_")})
    except SettingsError as exc:
        yield exc.message
    said = io.StringIO()
    try:
        with redirect_stderr(said):
            parser.read(arguments)
    except SystemExit:
        yield said.getvalue().strip()


def _not_served(name: str, autoscaler: Object) -> Iterator[str]:
    """External metrics that no rule of the adapter's names: nothing would be scaled by them."""
    rules = yaml.safe_load(ADAPTER.read_text())["rules"]["external"]
    served = {rule["name"]["as"] for rule in rules}
    for metric in autoscaler["spec"]["metrics"]:
        asked = metric.get("external", {}).get("metric", {}).get("name")
        if asked and asked not in served:
            yield f"{name}: {ADAPTER.parent.name}/{ADAPTER.name} does not serve {asked}"


def _asked_amiss(name: str, container: Object) -> Iterator[str]:
    ports = {port["name"] for port in container["ports"]}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        if asks := container.get(probe, {}).get("httpGet"):
            if asks["port"] not in ports:
                yield f"{name}: {probe} asks port {asks['port']!r}, which is none of its container"
            if asks["path"] not in ASKED:
                yield f"{name}: {probe} asks {asks['path']}, where nothing tells of health"


def _finds_no_pods(objects: list[Object], pods: Mapping[str, Object]) -> Iterator[str]:
    """Services, budgets, policies and PodMonitors: the pods that each selects, and their ports."""
    for each in objects:
        kind, spec = each["kind"], each.get("spec", {})
        if kind == "Service":
            labels = spec["selector"]
            ports = {port["targetPort"] for port in spec["ports"]}
        elif kind == "NetworkPolicy":
            labels = spec["podSelector"]["matchLabels"]
            ports = {port["port"] for rule in spec["ingress"] for port in rule["ports"]}
        elif kind in ("PodDisruptionBudget", "PodMonitor"):
            labels = spec["selector"]["matchLabels"]
            ports = {end["port"] for end in spec.get("podMetricsEndpoints", ())}
        else:
            continue
        found = [pod for pod in pods.values() if _has(pod, labels)]
        there = {p["name"] for pod in found for c in pod["spec"]["containers"] for p in c["ports"]}
        if not found or not ports <= there:
            yield f"{kind} {each['metadata']['name']}: it finds no pods, or not these ports of them"


def _finds_no_service(objects: list[Object]) -> Iterator[str]:
    """ServiceMonitors: Prometheus would scrape nothing, and say so nowhere."""
    services = [each for each in objects if each["kind"] == "Service"]
    for each in objects:
        if each["kind"] == "ServiceMonitor":
            found = [s for s in services if _has(s, each["spec"]["selector"]["matchLabels"])]
            there = {port["name"] for s in found for port in s["spec"]["ports"]}
            if not found or not {end["port"] for end in each["spec"]["endpoints"]} <= there:
                name = each["metadata"]["name"]
                yield f"ServiceMonitor {name}: it finds no service, or not these ports of one"


def _has(pod: Object, labels: Labels) -> bool:
    return bool(labels) and labels.items() <= pod["metadata"]["labels"].items()


if __name__ == "__main__":
    sys.exit(main(*map(Path, sys.argv[1:])))
