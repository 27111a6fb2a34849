"""Chart and manifests: by Helm's library, Kustomize, the API's schema, and s3cors itself."""

import json
import os
import pathlib
import re

import helm_python as helm
import pytest
import yaml

from charts import CHART, EXAMPLE, VALUES, documents, plain, render, values_of
from places import DEPLOY, binary, passes, run

KUBERNETES = DEPLOY / "kubernetes"
# Of extensions of the API, whose schema the validator does not have.
EXTENSIONS = {"HTTPRoute", "PrometheusRule", "ServiceMonitor"}
# What the plain manifests are made of: chart, release, file.
PLAIN = {
    KUBERNETES / "standalone": (CHART, "s3cors", "s3cors.yaml"),
    KUBERNETES / "sidecar-minio": (EXAMPLE, "minio", "minio.yaml"),
}

every_values = pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem if path else "default")
every_plain = pytest.mark.parametrize("where", PLAIN, ids=lambda path: path.name)


def validate(found, folder):
    """The API's schema; misspelt keys are errors."""
    known = [document for document in found if document["kind"] not in EXTENSIONS]
    assert known
    path = folder / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(known))
    passes("kubernetes-validate", "--strict", path)


def of_kind(found, kind):
    return [document for document in found if document["kind"] == kind]


def one(found, kind):
    (document,) = of_kind(found, kind)
    return document


def pod_of(found):
    (workload,) = [each for each in found if each["kind"] in ("Deployment", "StatefulSet")]
    return workload["spec"]["template"]["spec"]


def proxy_of(pod):
    (container,) = [
        each for each in pod["containers"] + pod.get("initContainers", []) if each["name"] == "s3cors"
    ]
    return container


def mounted(found, folder):
    """What the proxy's container has under /etc/s3cors, written to a folder; the config's path."""
    pod = pod_of(found)
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(found, "ConfigMap")}
    volumes = {each["name"]: each for each in pod["volumes"]}
    for mount in proxy_of(pod)["volumeMounts"]:
        assert "subPath" not in mount, "a file mounted by subPath is never updated"
        target = folder / mount["mountPath"].lstrip("/")
        target.mkdir(parents=True)
        for name, text in maps[volumes[mount["name"]]["configMap"]["name"]].items():
            (target / name).write_text(text)
    return folder / "etc/s3cors/config/s3cors.toml"


def assert_hardened(pod, container):
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    context = container["securityContext"]
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"] is True
    assert context["runAsNonRoot"] is True
    assert container["resources"]["requests"] and container["resources"]["limits"]


def test_helm_lint_has_no_complaint():
    found = helm.lint(str(CHART), strict=True)
    # Severity 1 is advice: an icon.
    assert found["errors"] == [] and all(each["severity"] <= 1 for each in found["messages"]), found


@every_values
def test_helm_lint_takes_each_values_file(values):
    found = helm.lint(str(CHART), values=values_of(values), strict=True)
    assert found["errors"] == [] and all(each["severity"] <= 1 for each in found["messages"]), found


@every_values
def test_what_the_chart_renders_is_what_the_api_takes(values, folder):
    validate(documents(render(CHART, values_of(values))), folder)


@every_values
def test_what_the_chart_renders_is_what_s3cors_takes(values, folder):
    config = mounted(documents(render(CHART, values_of(values))), folder)
    passes(binary(), "check", "--config", config, "--deny-warnings")


@every_values
def test_its_pods_are_hardened_and_drain_without_a_hook(values):
    found = documents(render(CHART, values_of(values)))
    pod = pod_of(found)
    container = proxy_of(pod)
    assert_hardened(pod, container)
    assert "lifecycle" not in container
    config = one_config(found)
    drain = sum(int(number) for number in re.findall(r"(?:delay|deadline)_seconds = (\d+)", config))
    assert pod["terminationGracePeriodSeconds"] > drain >= 30


def one_config(found):
    (config,) = [each["data"]["s3cors.toml"] for each in of_kind(found, "ConfigMap") if "s3cors.toml" in each["data"]]
    return config


@every_values
def test_every_reference_leads_somewhere(values):
    found = documents(render(CHART, values_of(values)))
    deployment = one(found, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = {each["name"]: each["containerPort"] for each in proxy_of(pod_of(found))["ports"]}
    services = of_kind(found, "Service")
    assert len(services) == 2
    for service in services:
        assert service["spec"]["selector"].items() <= labels.items()
        assert all(port["targetPort"] in ports for port in service["spec"]["ports"])
    for budget in of_kind(found, "PodDisruptionBudget") + of_kind(found, "NetworkPolicy"):
        selector = budget["spec"].get("selector") or budget["spec"]["podSelector"]
        assert selector["matchLabels"].items() <= labels.items()
    for scaler in of_kind(found, "HorizontalPodAutoscaler"):
        assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
        assert "replicas" not in deployment["spec"], "the autoscaler's number would be undone"
    names = {service["metadata"]["name"]: service for service in services}
    for route in of_kind(found, "HTTPRoute"):
        (backend,) = route["spec"]["rules"][0]["backendRefs"]
        assert backend["port"] in [port["port"] for port in names[backend["name"]]["spec"]["ports"]]
    for ingress in of_kind(found, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            assert rule["http"]["paths"][0]["backend"]["service"]["name"] in names
    for monitor in of_kind(found, "ServiceMonitor"):
        wanted = monitor["spec"]["selector"]["matchLabels"].items()
        (service,) = [each for each in services if wanted <= each["metadata"]["labels"].items()]
        assert monitor["spec"]["endpoints"][0]["port"] in [port["name"] for port in service["spec"]["ports"]]


def test_the_values_files_turn_everything_on_somewhere():
    kinds = set()
    for values in VALUES:
        kinds |= {document["kind"] for document in documents(render(CHART, values_of(values)))}
    assert kinds == EXTENSIONS | {
        "ConfigMap",
        "Deployment",
        "HorizontalPodAutoscaler",
        "Ingress",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Service",
        "ServiceAccount",
    }


def test_its_prometheus_rule_has_the_rules_that_promtool_checks():
    found = documents(render(CHART, {"prometheusRule": {"enabled": True}}))
    assert one(found, "PrometheusRule")["spec"] == values_of(DEPLOY / "prometheus/rules.yaml")


@pytest.mark.parametrize(
    "values",
    [
        {"replica": 3},
        {"image": {"repository": "s3cors", "tga": "1"}},
        {"policies": {"cors.xml": "not a policy"}},
        {"policies": {"sub/cors.xml": "<CORSConfiguration/>"}},
        {"buckets": {"Photos": "<CORSConfiguration/>"}},
        {"upstream": "http://minio:9000"},
        {"upstream": ["minio:9000"]},
        {"ports": {"http": 80}},
        {"ingress": {"enabled": True}},
        {"gateway": {"enabled": True}},
    ],
    ids=json.dumps,
)
def test_the_schema_refuses_values_that_make_no_sense(values):
    with pytest.raises(helm.HelmError, match="(?i)schema|additional|at '"):
        render(CHART, values)


def test_every_value_stands_in_the_schema_and_every_key_of_the_schema_is_a_value():
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]) - {"global"} == set(values_of(CHART / "values.yaml"))


def test_as_a_sidecar_it_is_an_init_container_that_goes_on(folder):
    found = documents(render(EXAMPLE, {}))
    validate(found, folder)
    pod = pod_of(found)
    (sidecar,) = pod["initContainers"]
    assert sidecar["name"] == "s3cors" and sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"] and sidecar["readinessProbe"] and sidecar["livenessProbe"]
    for container in [sidecar, *pod["containers"]]:
        assert_hardened(pod, container)
    assert of_kind(found, "Deployment") == []
    service = one(found, "Service")
    assert service["spec"]["ports"][0]["targetPort"] in [port["name"] for port in sidecar["ports"]]


@every_plain
def test_the_plain_manifests_are_what_the_chart_renders(where):
    chart, release, name = PLAIN[where]
    values = values_of(where / "values.yaml")
    head = f"# Made of deploy/helm/{chart.name} with values.yaml; do not edit, see ../README.md.\n---\n"
    wanted = head + plain(render(chart, values, name=release))
    path = where / name
    if os.environ.get("S3CORS_WRITE_MANIFESTS"):
        path.write_text(wanted)
    assert path.read_text() == wanted, "S3CORS_WRITE_MANIFESTS=1 tests/run deploy writes it anew"


@every_plain
def test_kustomize_builds_what_the_api_and_s3cors_take(where, folder):
    found = [each for each in yaml.safe_load_all(passes("kubectl", "kustomize", where)) if each]
    validate(found, folder)
    passes(binary(), "check", "--config", mounted(found, folder), "--deny-warnings")
    for each in of_kind(found, "ConfigMap"):
        assert re.fullmatch(r"s3cors-(config|buckets)", each["metadata"]["name"]), "a hash would roll the pods"


def test_a_misspelt_key_would_be_noticed(folder):
    found = documents(render(CHART, {}))
    pod_of(found)["containers"][0]["readynessProbe"] = {}
    path = folder / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(found))
    assert run("kubernetes-validate", "--strict", path).returncode != 0


def test_the_sources_are_tidy_yaml():
    rules = "{extends: relaxed, rules: {line-length: {max: 120}, comments-indentation: disable}}"
    files = [path for path in DEPLOY.rglob("*.yaml") if "templates" not in path.parts]
    assert len(files) > 5
    passes("yamllint", "--strict", "--config-data", rules, *files)


def test_the_schema_is_a_schema():
    passes("check-jsonschema", "--check-metaschema", CHART / "values.schema.json")


def test_versions_are_the_crates():
    manifest = (pathlib.Path(DEPLOY).parent / "Cargo.toml").read_text()
    version = re.search(r'^version = "(.+)"', manifest, re.MULTILINE)[1]
    assert values_of(CHART / "Chart.yaml")["appVersion"] == version
    for where in PLAIN:
        assert values_of(where / "kustomization.yaml")["images"] == [{"name": "s3cors", "newTag": version}]
