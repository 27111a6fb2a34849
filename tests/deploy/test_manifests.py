"""Manifests: image, ports, mounts, probes and config agree, and a planted mistake is found."""

import copy
import pathlib
import re
import tomllib

import pytest
import yaml

from charts import CHART, EXAMPLE, documents, render, values_of
from places import DEPLOY, IMAGE, passes

KUBERNETES = DEPLOY / "kubernetes"
PROBES = ["startupProbe", "readinessProbe", "livenessProbe"]


def built(folder):
    return [each for each in yaml.safe_load_all(passes("kubectl", "kustomize", folder)) if each]


SOURCES = {
    "standalone": lambda: built(KUBERNETES / "standalone"),
    "sidecar-minio": lambda: built(KUBERNETES / "sidecar-minio"),
    "cors-api": lambda: built(DEPLOY / "cors-api/kubernetes"),
    "cors-api chart": lambda: documents(render(CHART, values_of(DEPLOY / "cors-api/helm-values.yaml"))),
    "chart": lambda: documents(render(CHART, {})),
    "chart with ports": lambda: documents(render(CHART, {"ports": {"http": 8888, "admin": 9999}})),
    "example chart": lambda: documents(render(EXAMPLE, {})),
}


def parts(found):
    """The pod, its s3cors container, the config and the Services."""
    (workload,) = [each for each in found if each["kind"] in ("Deployment", "StatefulSet")]
    pod = workload["spec"]["template"]["spec"]
    (container,) = [each for each in pod["containers"] + pod.get("initContainers", []) if each["name"] == "s3cors"]
    maps = {each["metadata"]["name"]: each["data"] for each in found if each["kind"] == "ConfigMap"}
    return pod, container, maps, [each for each in found if each["kind"] == "Service"]


def config_of(pod, container, maps):
    """The config of --config, found through the mount and the ConfigMap; `None` if there is none."""
    (path,) = [pathlib.PurePath(each.removeprefix("--config=")) for each in container["args"] if each.startswith("--config=")]
    volumes = {each["name"]: each for each in pod["volumes"]}
    for mount in container["volumeMounts"]:
        if pathlib.PurePath(mount["mountPath"]) != path.parent:
            continue
        volume = volumes.get(mount["name"], {})
        for source in volume.get("projected", {}).get("sources", [volume]):
            if path.name in maps.get(source.get("configMap", {}).get("name"), {}):
                return tomllib.loads(maps[source["configMap"]["name"]][path.name])
    return None


def problems(found):
    """All contradictions between the manifests."""
    pod, container, maps, services = parts(found)
    complaints = []
    if container["image"] != IMAGE:
        complaints.append(f"image {container['image']} is not {IMAGE}")
    for other in pod["containers"] + pod.get("initContainers", []):
        if not re.search(r":[\w.-]*\d[\w.-]*$|@sha256:[0-9a-f]{64}$", other["image"]):
            complaints.append(f"{other['image']} names no version")
    config = config_of(pod, container, maps)
    if config is None:
        return [*complaints, "its config is not mounted"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    listens = {int(each["address"].rpartition(":")[2]) for each in config.get("listen", [])}
    if ports["http"] not in listens:
        complaints.append(f"port http is {ports['http']}, and the config listens on {listens}")
    (admin,) = [each["value"] for each in container["env"] if each["name"] == "S3CORS_ADMIN"]
    admin = int(admin.rpartition(":")[2])
    if ports["admin"] != admin:
        complaints.append(f"port admin is {ports['admin']}, and S3CORS_ADMIN has {admin}")
    for name in PROBES:
        asked = container[name]["httpGet"]["port"]
        if ports.get(asked, asked) != admin:
            complaints.append(f"{name} asks {asked}, and admin listens on {admin}")
    for service in services:
        for port in service["spec"]["ports"]:
            target = port["targetPort"]
            target = ports.get(target, target)
            if target not in listens | {admin}:
                complaints.append(f"Service {service['metadata']['name']} leads to {target}, where nothing listens")
    for mount in container["volumeMounts"]:
        if mount["name"] not in {each["name"] for each in pod["volumes"]}:
            complaints.append(f"no volume {mount['name']}")
    return complaints


@pytest.mark.parametrize("source", SOURCES)
def test_manifests_agree(source):
    assert problems(SOURCES[source]()) == []


@pytest.mark.parametrize("source", ["cors-api", "cors-api chart"])
def test_the_api_also_accepts_those_with_the_cors_api(source, folder):
    path = folder / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(SOURCES[source]()))
    passes("kubernetes-validate", "--strict", path)


def set_port(container, name, value):
    next(each for each in container["ports"] if each["name"] == name)["containerPort"] = value


MISTAKES = {
    "image": (lambda pod, box, maps, services: box.update(image=IMAGE + "-rc1"), "is not"),
    "a moving tag": (lambda pod, box, maps, services: pod["containers"][0].update(image="quay.io/minio/minio:latest"), "no version"),
    "port for clients": (lambda pod, box, maps, services: set_port(box, "http", 8081), "port http is 8081"),
    "admin port": (lambda pod, box, maps, services: set_port(box, "admin", 9902), "port admin is 9902"),
    "probe": (lambda pod, box, maps, services: box["readinessProbe"]["httpGet"].update(port=8080), "readinessProbe asks 8080"),
    "Service": (lambda pod, box, maps, services: services[0]["spec"]["ports"][0].update(targetPort=8081), "leads to 8081"),
    "config's path": (lambda pod, box, maps, services: box.update(args=["run", "--config=/etc/s3cors/s3cors.toml"]), "not mounted"),
    "config's port": (
        lambda pod, box, maps, services: maps["s3cors-config"].update({"s3cors.toml": maps["s3cors-config"]["s3cors.toml"].replace(":8080", ":8081")}),
        "the config listens on {8081}",
    ),
    "volume": (lambda pod, box, maps, services: box["volumeMounts"].append({"name": "none", "mountPath": "/x"}), "no volume none"),
}


@pytest.mark.parametrize("source", ["standalone", "sidecar-minio"])
@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(source, name):
    plant, said = MISTAKES[name]
    found = copy.deepcopy(SOURCES[source]())
    plant(*parts(found))
    complaints = problems(found)
    assert any(said in each for each in complaints), complaints
