"""The charts, rendered by Helm's own library."""

import pathlib
import shutil
import tempfile

import helm_python as helm
import yaml

from places import DEPLOY

HELM = DEPLOY / "helm"
CHART = HELM / "s3cors"
VALUES = [None, *sorted((CHART / "ci").glob("*-values.yaml"))]
EXAMPLE = HELM / "minio-sidecar"
EXAMPLE_VALUES = [None, *sorted((EXAMPLE / "ci").glob("*-values.yaml"))]

# Only real Helm releases contain these.
HELMS_LABELS = ("helm.sh/chart:", "app.kubernetes.io/managed-by:")


def values_of(path):
    return yaml.safe_load(path.read_text()) if path else {}


def render(chart, values, name="demo"):
    """The manifests' text by template, without the notes."""
    with tempfile.TemporaryDirectory() as folder:
        copy = pathlib.Path(folder) / chart.name
        shutil.copytree(chart, copy)
        if chart == EXAMPLE:
            # What `helm dependency build` does.
            shutil.copytree(CHART, copy / "charts" / CHART.name)
        with helm.Chart.load(str(copy)) as loaded:
            rendered = loaded.render(values, name=name, namespace="storage")
    return {name: text for name, text in sorted(rendered.items()) if name.endswith(".yaml") and text.strip()}


def documents(rendered):
    """The documents that the API server would get."""
    found = []
    for text in rendered.values():
        found += [document for document in yaml.load_all(text, UniqueKeys) if document]
    return found


class UniqueKeys(yaml.SafeLoader):
    """Refuses duplicate keys, like the API server; PyYAML uses the last one."""

    def construct_mapping(self, node, deep=False):
        keys = [self.construct_object(key, deep) for key, _ in node.value if key.tag != "tag:yaml.org,2002:merge"]
        assert len(keys) == len(set(keys)), f"duplicate key: {keys}"
        return super().construct_mapping(node, deep)


def plain(rendered):
    """A single file of manifests, for use without Helm."""
    parts = []
    for text in rendered.values():
        lines = [line for line in text.strip().splitlines() if not line.strip().startswith(HELMS_LABELS)]
        parts.append("\n".join(lines).removeprefix("---\n"))
    return "---\n".join(f"{part}\n" for part in parts)
