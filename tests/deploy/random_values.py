"""Random values for the chart, generated from its schema: most are valid, some have a fault."""

import json
import random
import re

from charts import CHART

# Candidates for strings; those that match the schema's pattern are used.
STRINGS = [
    "", "a", "web", "true", "null", "123", "1e5", "0x10", "on", "edge-1", "s3cors", "s3.example.com", "*.s3.example.com", "*",
    "http://minio:9000", "https://storage.example.com", "http://[fd00::1]:9000", "unix:/run/minio.sock", "10.0.0.0/8",
    "192.0.2.1", "fd00::/8", "v1.2.3", "registry.example.com:5000/team/s3cors", "sha256:" + "1" * 64, "25%", "100%", "30s",
    "100m", "64Mi", "1.5", "example.com/name", "kubernetes.io/hostname", "tmp", "/tmp", "--log-format=json", "--keep-going",
    "--admin-host=s3cors", "yes: no", "# not a comment", "it's", '"quoted"', "{{ .Values }}", "two\nlines", "é", "2026-01-01T00:00:00Z",
]  # fmt: skip
DOCUMENTS = [
    "<CORSConfiguration><CORSRule><AllowedOrigin>*</AllowedOrigin><AllowedMethod>GET</AllowedMethod></CORSRule></CORSConfiguration>",
    """<?xml version="1.0" encoding="UTF-8"?>
<CORSConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">
\t<CORSRule>
  <AllowedOrigin>https://app.example.com</AllowedOrigin>
    <AllowedMethod>PUT</AllowedMethod>

  </CORSRule>
</CORSConfiguration>
""",
]
KEYS = {
    "policies": ["cors.xml", "123.xml", "true.xml", "other.xml"],
    "buckets": ["photos", "uploads", "123", "1e5", "true", "a.b.c"],
}
CONFIGS = [
    "",
    '[[route]]\nhost = "*"\nupstream = "http://minio:9000"\n',
    '[drain]\ndeadline_seconds = 1_000\n\n[[listen]]\naddress = "[::]:8080"\n\n[[route]]\nhost = "*"\nupstream = "http://minio:9000"\n',
]
FAULTS = ["banana", -1, 1.5, [], {}, None, True, "maxUnavailable: 1", {"unknown": 1}, [1], "a b", "\u0007"]


class Values:
    """The values of one seed. Each key is set with a probability of one in five, so that most keep the chart's default."""

    def __init__(self, seed):
        self._random = random.Random(seed)
        self._schema = json.loads((CHART / "values.schema.json").read_text())
        self.values = {}
        for key, schema in self._schema["properties"].items():
            if key != "global" and self._random.random() < 0.2:
                self.values[key] = self._top(key, schema)
        self.is_faulty = self._random.random() < 0.2
        if self.is_faulty:
            self._break(self.values)

    def _top(self, key, schema):
        if key in KEYS:
            names = self._random.sample(KEYS[key], self._random.randrange(3))
            return {name: self._random.choice(DOCUMENTS) for name in names}
        if key == "config":
            return self._random.choice(CONFIGS)
        if key == "standalone":
            return self._random.random() < 0.7
        if key == "terminationGracePeriodSeconds" and self._random.random() < 0.7:
            return 172_800
        found = self._of(schema, 0)
        if key in ("ingress", "gateway") and self._random.random() < 0.7:
            found |= {"hosts": ["s3.example.com"]} if key == "ingress" else {"parentRefs": [{"name": "public"}]}
        return found

    def _of(self, schema, depth):
        if "$ref" in schema:
            return self._of(self._schema["definitions"][schema["$ref"].rpartition("/")[2]], depth)
        if "allOf" in schema:
            return self._of({key: each for one in map(self._resolved, schema["allOf"]) for key, each in one.items()}, depth)
        if "oneOf" in schema:
            return self._of(self._random.choice(schema["oneOf"]), depth)
        if "enum" in schema:
            return self._random.choice(schema["enum"])
        kinds = schema.get("type", "object")
        kinds = [kinds] if isinstance(kinds, str) else [kind for kind in kinds if kind != "null" or depth == 1]
        kind = self._random.choice(kinds)
        return getattr(self, f"_{kind}")(schema, depth)

    def _resolved(self, schema):
        return self._schema["definitions"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema

    def _object(self, schema, depth):
        found = {}
        required = schema.get("required", [])
        properties = schema.get("properties", {})
        for key in required:
            found[key] = self._of(properties.get(key, {"type": "string"}), depth + 1)
        chance = 0.5 if depth == 0 else 0.15
        for key, each in properties.items():
            if key not in found and depth < 6 and self._random.random() < chance:
                found[key] = self._of(each, depth + 1)
        free = schema.get("additionalProperties")
        if isinstance(free, dict):
            for _ in range(self._random.randrange(3)):
                found[self._string(schema.get("propertyNames", {}), depth)] = self._of(free, depth + 1)
        return found

    def _array(self, schema, depth):
        count = self._random.randrange(schema.get("minItems", 0), min(3, schema.get("maxItems", 3)) + 1)
        found = [self._of(schema.get("items", {"type": "string"}), depth + 1) for _ in range(count)]
        return [each for place, each in enumerate(found) if not schema.get("uniqueItems") or each not in found[:place]]

    def _string(self, schema, _):
        if schema.get("format") == "date-time":
            return "2026-01-01T00:00:00Z"
        pattern, least = re.compile(schema.get("pattern", "")), schema.get("minLength", 0)
        return self._random.choice([each for each in STRINGS if pattern.search(each) and len(each) >= least] or ["web"])

    def _integer(self, schema, _):
        low, high = schema.get("minimum", 0), schema.get("maximum", 100_000)
        return self._random.choice([low, min(high, low + 1), min(high, 8080), self._random.randint(low, high)])

    _number = _integer

    def _boolean(self, *_):
        return self._random.random() < 0.5

    def _null(self, *_):
        return None

    def _break(self, node):
        """Inserts a fault somewhere below."""
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = self._random.choice(keys)
        if isinstance(node[key], (dict, list)) and node[key] and self._random.random() < 0.8:
            self._break(node[key])
        else:
            node[key] = self._random.choice(FAULTS)
