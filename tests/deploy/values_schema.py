"""The chart's values.schema.json: its own part is written by hand, and Kubernetes' definitions are copied.

Helm reads one file and follows no references to others, so the definitions that the hand-written part uses
(`"$ref": "#/definitions/io.k8s…"`) are copied into it, without descriptions, from the schemas of
kubernetes-validate: those of the Kubernetes project, in the version that is validated against.

    S3CORS_WRITE_MANIFESTS=1 tests/run deploy    copies them again
"""

import importlib.resources
import json

from charts import CHART

SCHEMA = CHART / "values.schema.json"
PREFIX = "io.k8s."
# Kubernetes' schema accepts any string, but the API server does not.
QUANTITY = "^[+-]?([0-9]+(\\.[0-9]*)?|\\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]+)?$"
STRICTER = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {
        "type": ["string", "number", "null"],
        "pattern": QUANTITY,
    },
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": {"type": ["string", "integer", "null"]},
}
# The types that a chart value extends: Kubernetes' types without the fields that the chart sets
# itself or that have their own value.
EXTRA = {
    "extraPodSpec": (
        "io.k8s.api.core.v1.PodSpec",
        "affinity automountServiceAccountToken containers enableServiceLinks imagePullSecrets initContainers nodeSelector "
        "priorityClassName securityContext serviceAccount serviceAccountName terminationGracePeriodSeconds tolerations "
        "topologySpreadConstraints volumes",
    ),
    "extraContainerSpec": (
        "io.k8s.api.core.v1.Container",
        "args env envFrom image imagePullPolicy livenessProbe name ports readinessProbe resources restartPolicy "
        "securityContext startupProbe volumeMounts",
    ),
}


def written():
    """The expected contents of the file."""
    known = _definitions()
    schema = json.loads(SCHEMA.read_text())
    own = {name: each for name, each in schema["definitions"].items() if not name.startswith(PREFIX)}
    for name, (source, without) in EXTRA.items():
        definition = known[source]
        properties = {key: each for key, each in definition["properties"].items() if key not in without.split()}
        own[name] = {"type": "object", "additionalProperties": False, "properties": properties}
    schema["definitions"] = own
    copied = {}
    wanted = _references(schema)
    while wanted:
        name = wanted.pop()
        copied[name] = STRICTER.get(name) or known[name]
        wanted |= _references(copied[name]) - set(copied)
    return _text(schema, own, copied)


def _definitions():
    versions = importlib.resources.files("kubernetes_validate") / "kubernetes-json-schema"
    folders = [each.name for each in versions.iterdir() if each.name.endswith("-local-strict")]
    latest = max(folders, key=lambda name: [int(part) for part in name[1:].split("-")[0].split(".")])
    return _plain(json.loads((versions / latest / "_definitions.json").read_text())["$defs"])


def _plain(schema):
    """Removes what validators ignore; keeps `required` and similar keys."""
    if isinstance(schema, list):
        return [_plain(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if isinstance(schema.get("$ref"), str):
        # In draft 7, other keys next to a reference are ignored.
        return {"$ref": schema["$ref"].replace("#/$defs/", "#/definitions/")}
    kept = {}
    for key, each in schema.items():
        if key == "properties":
            kept[key] = {name: _plain(one) for name, one in each.items()}
        elif not (key == "description" and isinstance(each, str)) and not key.startswith("x-kubernetes"):
            kept[key] = _plain(each)
    return kept


def _references(schema):
    """The Kubernetes definitions that a schema uses."""
    if isinstance(schema, list):
        return set().union(*map(_references, schema))
    if not isinstance(schema, dict):
        return set()
    reference = schema.get("$ref", "")
    if isinstance(reference, str) and reference.startswith(f"#/definitions/{PREFIX}"):
        return {reference.removeprefix("#/definitions/")}
    return set().union(*map(_references, schema.values()))


def _text(schema, own, copied):
    """Formats the chart's own part for reading, and the copied part with one line for each definition."""
    lines = [f"{json.dumps(name)}: {json.dumps(each)}" for name, each in sorted(copied.items())]
    schema["definitions"] = {**own, "COPIED": 0}
    text = json.dumps(schema, indent=2)
    return text.replace('"COPIED": 0', ",\n    ".join(lines)) + "\n"
