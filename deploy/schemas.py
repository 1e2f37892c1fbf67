"""What `kubeconform` judges by, from the API description in the Go module `k8s.io/kubernetes`.

`schemas.py SWAGGER DIR` writes a schema for each kind that the chart renders, references put in
place and unknown fields refused, so that a chart is checked without another server's list.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

KINDS = {
    ("", "v1", "ConfigMap"),
    ("", "v1", "Service"),
    ("apps", "v1", "Deployment"),
    ("autoscaling", "v2", "HorizontalPodAutoscaler"),
    ("networking.k8s.io", "v1", "Ingress"),
    ("networking.k8s.io", "v1", "NetworkPolicy"),
    ("policy", "v1", "PodDisruptionBudget"),
}
LOOSE = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {"type": ["string", "number"]},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer"]},
}


def resolved(schema: Any, definitions: dict[str, Any]) -> Any:
    """The schema with everything that it refers to in place, and objects closed."""
    if isinstance(schema, list):
        return [resolved(each, definitions) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(reference := schema.get("$ref"), str):
        name = reference.rpartition("/")[2]
        return LOOSE.get(name) or resolved(definitions[name], definitions)
    found = {
        key: {name: resolved(each, definitions) for name, each in value.items()}
        if key == "properties"
        else resolved(value, definitions)
        for key, value in schema.items()
        if key not in ("description", "format") and not key.startswith("x-")
    }
    if "properties" in found:
        found.setdefault("additionalProperties", False)
    return found


def main(swagger: Path, folder: Path) -> int:
    definitions = json.loads(swagger.read_text())["definitions"]
    folder.mkdir(parents=True, exist_ok=True)
    missing = set(KINDS)
    for schema in definitions.values():
        for known in schema.get("x-kubernetes-group-version-kind", ()):
            key = (known["group"], known["version"], known["kind"])
            if key not in missing:
                continue
            missing.discard(key)
            group = key[0].partition(".")[0]
            suffix = "-".join(part for part in (key[2].lower(), group, key[1]) if part)
            (folder / f"{suffix}.json").write_text(json.dumps(resolved(schema, definitions)))
    if missing:
        print(f"{swagger} describes no {', '.join(kind for *_, kind in sorted(missing))}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
