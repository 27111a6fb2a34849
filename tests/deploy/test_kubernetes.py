"""Checks chart and manifests with Helm's library, Kustomize, the API's schema, and s3cors itself."""

import functools
import http.client
import json
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess

import helm_python as helm
import kubernetes_validate.utils as kubernetes
import pytest
import yaml

import proxy
import values_schema
from charts import CHART, EXAMPLE, EXAMPLE_VALUES, HELM, VALUES, documents, plain, render, values_of
from places import DEPLOY, REPOSITORY, ROOT, VERSION, binary, passes, run, tool
from programs import Program, free_ports
from proxy import policy, rule
from random_values import Values

KUBERNETES = DEPLOY / "kubernetes"
# Cached, because otherwise it parses a megabyte of schema for each document.
kubernetes.schema_contents = functools.lru_cache(maxsize=None)(kubernetes.schema_contents)
# Kinds of API extensions, whose schemas the validator does not have.
EXTENSIONS = {"HTTPRoute", "PodMonitor", "PrometheusRule", "ServiceMonitor"}
# The sources of the plain manifests: chart, release, file.
PLAIN = {
    KUBERNETES / "standalone": (CHART, "s3cors", "s3cors.yaml"),
    KUBERNETES / "sidecar-minio": (EXAMPLE, "minio", "minio.yaml"),
}

every_values = pytest.mark.parametrize("values", VALUES, ids=lambda path: path.stem if path else "default")
every_rendered = pytest.mark.parametrize(
    "chart,values",
    [(CHART, each) for each in VALUES] + [(EXAMPLE, each) for each in EXAMPLE_VALUES],
    ids=lambda part: part.stem if part else "default",
)
every_plain = pytest.mark.parametrize("where", PLAIN, ids=lambda path: path.name)


def validate(found, folder):
    """Validates against the API's schema; misspelled keys are errors."""
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
    """Writes the contents of /etc/s3cors in the proxy's container to a folder; returns the config's path."""
    pod = pod_of(found)
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(found, "ConfigMap")}
    volumes = {each["name"]: each for each in pod["volumes"]}
    for mount in proxy_of(pod)["volumeMounts"]:
        assert "subPath" not in mount, "a file mounted by subPath is never updated"
        target = folder / mount["mountPath"].lstrip("/")
        target.mkdir(parents=True)
        volume = volumes[mount["name"]]
        if "secret" in volume:
            certificate(target)
        for source in volume.get("projected", {}).get("sources", [volume]):
            if "configMap" in source:
                # One that the chart does not create already exists; here it is empty.
                for name, text in maps.get(source["configMap"]["name"], {}).items():
                    (target / name).write_text(text)
    return folder / "etc/s3cors/config/s3cors.toml"


def certificate(folder):
    """tls.crt and tls.key, as in a Secret of Kubernetes."""
    subprocess.run(
        [tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=s3.example.com", "-addext", "subjectAltName=DNS:s3.example.com", "-days", "30",
         "-keyout", "tls.key", "-out", "tls.crt"],
        cwd=folder, check=True, capture_output=True,
    )  # fmt: skip
    # The kubelet sets this with fsGroup or defaultMode; `check` warns about a key that everyone can
    # read.
    (folder / "tls.key").chmod(0o600)


DECISION = re.compile(r"^#   (\w+) (http\S+) from (\S+): (allowed|refused|transparent)$", re.MULTILINE)


def decisions(path):
    """The expected decisions that a values file lists."""
    found = DECISION.findall(path.read_text())
    assert len(found) >= 2, f"{path} lists no decisions"
    return found


def decided(config, method, url, origin):
    """The proxy's decision."""
    said = passes_or_refuses(
        "explain", "--config", config, "--url", url, "--origin", origin, "--method", method, "--format", "json"
    )
    return json.loads(said)["verdict"]


def passes_or_refuses(*arguments):
    done = run(binary(), *arguments)
    assert done.returncode in (0, 1), done.stdout
    return done.stdout


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


def test_helm_lint_finds_no_problems():
    found = helm.lint(str(CHART), strict=True)
    # Severity 1 is advice, such as a missing icon.
    assert found["errors"] == [] and all(each["severity"] <= 1 for each in found["messages"]), found


@pytest.mark.parametrize("values", EXAMPLE_VALUES, ids=lambda path: path.stem if path else "default")
def test_helm_lint_takes_the_example(values, folder):
    copy = folder / EXAMPLE.name
    shutil.copytree(EXAMPLE, copy)
    # What `helm dependency build` does.
    shutil.copytree(CHART, copy / "charts" / CHART.name)
    found = helm.lint(str(copy), values=values_of(values), strict=True)
    assert found["errors"] == [] and all(each["severity"] <= 1 for each in found["messages"]), found


@every_values
def test_helm_lint_accepts_each_values_file(values):
    found = helm.lint(str(CHART), values=values_of(values), strict=True)
    assert found["errors"] == [] and all(each["severity"] <= 1 for each in found["messages"]), found


@every_rendered
def test_the_api_accepts_what_a_chart_renders(chart, values, folder):
    validate(documents(render(chart, values_of(values))), folder)


@pytest.mark.parametrize("version", ["1.30", "1.32", "1.35"])
@every_rendered
def test_older_apis_accept_it_too(chart, values, version):
    for each in documents(render(chart, values_of(values))):
        if each["kind"] not in EXTENSIONS:
            kubernetes.validate(each, version, strict=True)


@every_rendered
def test_s3cors_accepts_what_a_chart_renders(chart, values, folder):
    found = documents(render(chart, values_of(values)))
    if configs(found):
        passes(binary(), "check", "--config", mounted(found, folder), "--deny-warnings")


@every_rendered
def test_decisions_match_the_values_file(chart, values, folder):
    found = documents(render(chart, values_of(values)))
    if not configs(found):
        assert DECISION.search(values.read_text()) is None, "the decisions are those of a ConfigMap that exists already"
        return
    config = mounted(found, folder)
    if values is None:
        # There is no policy that the user did not write.
        for origin in ("https://app.example.com", "https://any.example"):
            for method in ("GET", "PUT"):
                assert decided(config, method, "http://s3.example.com/photos/cat.jpg", origin) == "transparent"
        return
    for method, url, origin, wanted in decisions(values):
        assert decided(config, method, url, origin) == wanted, f"{method} {url} from {origin}"


@every_values
def test_its_pods_are_hardened_and_drain_without_a_hook(values):
    found = documents(render(CHART, values_of(values)))
    pod = pod_of(found)
    container = proxy_of(pod)
    assert_hardened(pod, container)
    assert "lifecycle" not in container
    for config in configs(found):
        drain = sum(int(number) for number in re.findall(r"(?:delay|deadline)_seconds = (\d+)", config))
        assert pod["terminationGracePeriodSeconds"] > drain >= 30


def configs(found):
    """The config, unless it is in a ConfigMap that the chart does not create."""
    return [each["data"]["s3cors.toml"] for each in of_kind(found, "ConfigMap") if "s3cors.toml" in each["data"]]


@every_values
def test_every_reference_has_a_target(values):
    found = documents(render(CHART, values_of(values)))
    deployment = one(found, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    ports = {each["name"]: each["containerPort"] for each in proxy_of(pod_of(found))["ports"]}
    services = of_kind(found, "Service")
    assert len(services) == 2
    for service in services:
        assert service["spec"]["selector"].items() <= labels.items()
        # Numbers, because up to Kubernetes 1.31 the name of a native sidecar's port is not found.
        assert all(port["targetPort"] in ports.values() for port in service["spec"]["ports"])
        if proxy_of(pod_of(found))["env"][0]["value"].startswith("[::]"):
            assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack"
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
    for monitor in of_kind(found, "PodMonitor"):
        assert monitor["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert monitor["spec"]["podMetricsEndpoints"][0]["port"] in ports
    for monitor in of_kind(found, "PodMonitor") + of_kind(found, "ServiceMonitor"):
        (endpoint,) = monitor["spec"].get("endpoints") or monitor["spec"]["podMetricsEndpoints"]
        (relabelling,) = endpoint["relabelings"]
        assert relabelling["targetLabel"] == "job" and re.fullmatch(".*s3cors.*", relabelling["replacement"])


def test_the_values_files_together_enable_everything():
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


def test_its_runbook_links_follow_the_values():
    base = "https://git.example.com/s3cors/blob/main/"
    found = documents(render(CHART, {"prometheusRule": {"enabled": True, "runbookBaseUrl": base}}))
    groups = one(found, "PrometheusRule")["spec"]["groups"]
    links = [each["annotations"]["runbook_url"] for group in groups for each in group["rules"] if "alert" in each]
    assert len(links) > 20
    assert all(link.startswith(f"{base}deploy/troubleshooting/alerts.md#") for link in links)


REFUSED = [
    {"replica": 3},
    {"image": {"repository": "s3cors", "tga": "1"}},
    {"policies": {"cors.xml": "not a policy"}},
    {"policies": {"sub/cors.xml": "<CORSConfiguration/>"}},
    {"policies": {"cors.xml": "<CORSConfiguration/>\u0007"}},
    {"buckets": {"Photos": "<CORSConfiguration/>"}},
    {"upstream": "http://minio:9000"},
    {"upstream": ["minio:9000"]},
    {"ports": {"http": 80}},
    {"ingress": {"enabled": True}},
    {"gateway": {"enabled": True}},
    {"podDisruptionBudget": {"maxUnavailable": "banana"}},
    {"podDisruptionBudget": {"maxUnavailable": "101%"}},
    {"podDisruptionBudget": {"maxUnavailable": -1}},
    {"strategy": {"rollingUpdate": {"maxSurge": "banana"}}},
    {"resources": {"limits": {"memory": "banana"}}},
    {"resources": {"limit": {"memory": "64Mi"}}},
    {"securityContext": {"runAsUser": "root"}},
    {"securityContext": {"runAsUsr": 1}},
    {"tolerations": [{"key": "a", "operater": "Exists"}]},
    {"tolerations": [None]},
    {"fullnameOverride": "a.b"},
    {"podLabels": {"app.kubernetes.io/name": "other"}},
    {"podLabels": {"team": "a b"}},
    {"args": ["--listen=0.0.0.0:80"]},
    {"args": ["--config", "other.toml"]},
    {"address": "127.0.0.1"},
    {"forwarded": "yes"},
    {"trustedProxies": ["10.0.0.0/33"]},
    {"extraPodSpec": {"containers": []}},
    {"extraPodSpec": {"hostNetwrok": True}},
    {"extraContainerSpec": {"image": "other"}},
    {"extraContainerSpec": {"lifecycel": {}}},
]
# Values that contradict each other, which a schema cannot detect, with what the message must name.
CONTRADICTIONS = [
    ({"ports": {"http": 9901}}, "ports.admin"),
    ({"ports": {"http": 8080, "admin": 8080}}, "different ports"),
    ({"autoscaling": {"enabled": True, "minReplicas": 5, "maxReplicas": 3}}, "minReplicas"),
    ({"autoscaling": {"minReplicas": 11}}, "minReplicas"),
    ({"terminationGracePeriodSeconds": 30}, "terminationGracePeriodSeconds"),
    ({"drain": {"deadlineSeconds": 600}, "terminationGracePeriodSeconds": 60}, "deadlineSeconds"),
    ({"config": "[drain]\ndeadline_seconds = 6_00\n", "terminationGracePeriodSeconds": 60}, "600"),
    ({"config": "drain = {delay_seconds=70}\n", "terminationGracePeriodSeconds": 90}, "100"),
    ({"existingConfigMap": "mine", "config": "[[route]]"}, "existingConfigMap"),
    ({"existingConfigMap": "mine", "policies": {"cors.xml": "<CORSConfiguration/>"}}, "policies"),
    ({"existingConfigMap": "mine", "trustedProxies": ["10.0.0.0/8"]}, "trusted_proxies"),
    ({"config": "[[route]]", "forwarded": "both"}, "forwarded"),
    ({"env": [{"name": "S3CORS_LISTEN", "value": "0.0.0.0:80"}]}, "S3CORS_LISTEN"),
    ({"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}, "twice"),
    ({"volumes": [{"name": "s3cors-config", "emptyDir": {}}]}, "s3cors-config"),
    ({"volumeMounts": [{"name": "tls", "mountPath": "/tls"}]}, "volumes"),
    ({"extraContainers": [{"name": "s3cors", "image": "other"}]}, "s3cors"),
    ({"initContainers": [{"name": "a"}], "extraContainers": [{"name": "a"}]}, "twice"),
    ({"buckets": {"photos": "<CORSConfiguration/>"}, "bucketAddress": "host", "hosts": ["s3.example.com"]}, "wildcard"),
    ({"extraBucketsConfigMaps": ["a"], "existingBucketsConfigMap": "a"}, "twice"),
    ({"buckets": {f"bucket-{number}": "<CORSConfiguration/>" + " " * 4000 for number in range(300)}}, "1 MiB"),
    ({"address": "0.0.0.0", "service": {"ipFamilyPolicy": "RequireDualStack"}}, "IPv6"),
    ({"address": "0.0.0.0", "service": {"ipFamilies": ["IPv6"]}}, "IPv6"),
    ({"service": {"externalTrafficPolicy": "Local"}}, "externalTrafficPolicy"),
    ({"service": {"loadBalancerClass": "example.com/internal"}}, "LoadBalancer"),
    ({"strategy": {"type": "Recreate", "rollingUpdate": {"maxSurge": 1}}}, "rollingUpdate"),
    ({"service": None}, "service is null"),
    ({"ports": {"http": None}}, "ports.http is null"),
    ({"standalone": False, "gateway": {"enabled": True, "parentRefs": [{"name": "a"}]}}, "standalone"),
    ({"standalone": False, "serviceMonitor": {"enabled": True}}, "standalone"),
    ({"standalone": False, "extraPodSpec": {"hostNetwork": True}}, "standalone"),
    ({"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}}, "twice"),
]
ACCEPTED = [
    # OpenShift chooses the user.
    {"securityContext": {"runAsUser": None, "runAsGroup": None}, "podSecurityContext": {"fsGroup": 1000}},
    {"service": {"type": "LoadBalancer", "externalTrafficPolicy": "Local", "loadBalancerClass": "example.com/internal"}},
    {"service": {"type": "NodePort", "nodePort": 30080, "ipFamilyPolicy": "RequireDualStack"}},
    {"service": {"ipFamilies": ["IPv6", "IPv4"]}},
    {"autoscaling": {"enabled": True, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 300}}}},
    {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 3}},
    {"strategy": {"type": "Recreate"}},
    {"strategy": {"rollingUpdate": {"maxUnavailable": 1, "maxSurge": "50%"}}},
    {"initContainers": [{"name": "wait", "image": "busybox", "command": ["true"]}]},
    {"extraContainers": [{"name": "logs", "image": "busybox"}]},
    {"extraPodSpec": {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet", "hostAliases": [{"ip": "192.0.2.1"}]}},
    {"extraContainerSpec": {"lifecycle": {"preStop": {"sleep": {"seconds": 5}}}, "tty": True}},
    {"podDisruptionBudget": {"maxUnavailable": "25%"}},
    {"drain": {"deadlineSeconds": 600}, "terminationGracePeriodSeconds": 700},
    {"fullnameOverride": "null", "serviceAccount": {"name": "123"}, "priorityClassName": "true"},
    {"envFrom": [{"secretRef": {"name": "proxy"}}]},
    {"standalone": False, "podMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}},
]


@pytest.mark.parametrize("values", REFUSED, ids=json.dumps)
def test_the_schema_refuses_values_that_make_no_sense(values):
    with pytest.raises(helm.HelmError, match="(?i)schema|additional|at '"):
        render(CHART, values)


@pytest.mark.parametrize("values,named", CONTRADICTIONS, ids=lambda part: json.dumps(part)[:80])
def test_values_that_contradict_each_other_are_refused_by_name(values, named):
    with pytest.raises(helm.HelmError, match=f"execution error at .*s3cors/templates/.*{re.escape(named)}"):
        render(CHART, values)


@pytest.mark.parametrize("values", ACCEPTED, ids=json.dumps)
def test_values_that_operators_need_are_accepted(values, folder):
    found = documents(render(CHART, values))
    if any(each["kind"] not in EXTENSIONS for each in found):
        validate(found, folder)
    given = json.dumps(found, sort_keys=True)
    for name in ("extraPodSpec", "extraContainerSpec", "strategy"):
        for key, each in values.get(name, {}).items():
            assert json.dumps({key: each}, sort_keys=True)[1:-1] in given


def paths(values, above=()):
    for key, value in values.items():
        yield (*above, key)
        if isinstance(value, dict):
            yield from paths(value, (*above, key))


@pytest.mark.parametrize("path", list(paths(values_of(CHART / "values.yaml"))), ids=".".join)
def test_a_null_has_no_default_and_renders_or_is_refused_by_name(path):
    """Helm treats null as "remove the default"."""
    values = functools.reduce(lambda inner, key: {key: inner}, reversed(path), None)
    try:
        found = documents(render(CHART, values))
    except helm.HelmError as error:
        reasons = f"missing property '{path[-1]}'|execution error at .s3cors/templates/.*: {re.escape('.'.join(path))} is null"
        assert re.search(reasons, str(error)) or path == ("autoscaling", "maxReplicas"), error
        return
    for each in found:
        if each["kind"] not in EXTENSIONS:
            kubernetes.validate(each, "1.37", strict=True)


def test_names_that_look_like_numbers_or_null_stay_names():
    found = documents(render(CHART, {"fullnameOverride": "null", "serviceAccount": {"name": "123"}}, name="1e5"))
    assert pod_of(found)["serviceAccountName"] == "123"
    assert one(found, "Deployment")["metadata"]["name"] == "null"
    assert one(found, "Deployment")["metadata"]["labels"]["app.kubernetes.io/instance"] == "1e5"


# A few seconds' worth of the 500 that were tested.
SEEDS = range(int(os.environ.get("S3CORS_RANDOM_VALUES", "40")))


def test_what_the_schema_accepts_renders_and_validates_or_is_refused_by_name(folder):
    """Values generated from the schema are rendered and accepted by the API's schema and s3cors, or refused with a reason."""
    rendered = 0
    for seed in SEEDS:
        made = Values(seed)
        try:
            found = documents(render(CHART, made.values))
        except helm.HelmError as error:
            reasons = "don't meet the specifications of the schema|execution error at .s3cors/templates/"
            assert re.search(reasons, str(error)), f"seed {seed}: {error}"
            continue
        rendered += 1
        for each in found:
            if each["kind"] not in EXTENSIONS:
                kubernetes.validate(each, "1.37", strict=True)
        if "config" not in made.values and configs(found) and made.values.get("standalone") is not False:
            config = folder / f"{seed}"
            config.mkdir()
            for target, data in [(each["metadata"]["name"], each["data"]) for each in of_kind(found, "ConfigMap")]:
                place = config / ("buckets" if target.endswith("-buckets") else "config")
                place.mkdir()
                for name, text in data.items():
                    (place / name).write_text(text)
            (config / "buckets").mkdir(exist_ok=True)
            passes(binary(), "check", "--config", config / "config/s3cors.toml")
    assert rendered > len(SEEDS) / 4


def test_the_schema_has_kubernetes_own_definitions():
    wanted = values_schema.written()
    if os.environ.get("S3CORS_WRITE_MANIFESTS"):
        values_schema.SCHEMA.write_text(wanted)
    assert values_schema.SCHEMA.read_text() == wanted, "S3CORS_WRITE_MANIFESTS=1 tests/run deploy writes it again"


LISTENERS = {
    "a table": '[[listen]]\naddress = "127.0.0.1:0"\ntls = [{ certificate = "tls.crt", key = "tls.key" }]\n',
    "inline": 'listen = [{ address = "127.0.0.1:0", tls = [{ certificate = "tls.crt", key = "tls.key" }] }]\n',
}


@pytest.mark.parametrize("listener", LISTENERS.values(), ids=list(LISTENERS))
@pytest.mark.parametrize("where", ["existingConfigMap", "config"])
def test_tls_of_the_users_config_is_not_replaced(listener, where, folder):
    certificate(folder)
    config = listener + '[[route]]\nhost = "s3.example.com"\nupstream = "http://127.0.0.1:9"\n'
    found = documents(render(CHART, {where: "mine" if where == "existingConfigMap" else config}))
    (folder / "s3cors.toml").write_text(configs(found)[0] if where == "config" else config)
    variables = {each["name"]: each["value"] for each in proxy_of(pod_of(found))["env"]}
    variables["S3CORS_ADMIN"] = "127.0.0.1:0"
    command = [binary(), "run", "--config", folder / "s3cors.toml"]
    with Program("s3cors", command, env=proxy.environment() | variables) as served:
        port = int(served.wait_for(r"listening address=127\.0\.0\.1:(\d+)")[1])
        trusted = ssl.create_default_context(cafile=folder / "tls.crt")
        connection = http.client.HTTPSConnection("127.0.0.1", port, timeout=20, context=trusted)
        trusted.check_hostname = False
        connection.request("GET", "/", headers={"Host": "other.example"})
        assert connection.getresponse().status == 421
        connection.close()


@pytest.mark.parametrize("config", ['[[route]]\nhost = "*"\nupstream = "http://127.0.0.1:9"', "# [[listen]]\nworkers = 1\n"])
def test_a_config_without_a_listener_gets_the_charts(config):
    found = documents(render(CHART, {"config": config, "ports": {"http": 8081}}))
    assert configs(found)[0].rstrip().endswith('[[listen]]\naddress = "[::]:8081"')


def has_ipv6():
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")
def test_it_listens_and_answers_probes_over_both_families(folder):
    """The chart's address "[::]", reached by the pod's IPv4 address and by IPv6."""
    found = documents(render(CHART, {"policies": {"cors.xml": policy(rule(["https://app.example.com"]))}}))
    config = mounted(found, folder)
    http_port, admin_port = free_ports(2)
    config.write_text(config.read_text().replace("[::]:8080", f"[::]:{http_port}"))
    (admin,) = [each["value"] for each in proxy_of(pod_of(found))["env"] if each["name"] == "S3CORS_ADMIN"]
    assert admin == "[::]:9901"
    variables = {"S3CORS_ADMIN": f"[::]:{admin_port}"}
    with Program("s3cors", [binary(), "run", "--config", config], env=proxy.environment() | variables) as served:
        served.wait_for("ready:")
        for host in ("127.0.0.1", "::1"):
            for port, target, wanted in ((admin_port, "/readyz", 200), (http_port, "/", 200)):
                connection = http.client.HTTPConnection(host, port, timeout=20)
                method = "GET" if port == admin_port else "OPTIONS"
                fields = {"Origin": "https://app.example.com", "Access-Control-Request-Method": "GET"}
                connection.request(method, target, headers=fields if method == "OPTIONS" else {})
                assert connection.getresponse().status == wanted, (host, port)
                connection.close()


def test_proxies_in_front_are_trusted_and_client_addresses_are_forwarded():
    found = documents(render(CHART, {"trustedProxies": ["10.0.0.0/8", "fd00::/8"], "forwarded": ["x-forwarded", "x-real-ip"]}))
    config = configs(found)[0]
    assert config.startswith('trusted_proxies = ["10.0.0.0/8","fd00::/8"]\n')
    assert config.rstrip().endswith('forwarded = ["x-forwarded","x-real-ip"]')
    for values in VALUES:
        given = values_of(values)
        if given.get("ingress") or given.get("gateway"):
            assert given["trustedProxies"] and given["forwarded"] == "x-forwarded", values


def test_buckets_of_many_configmaps_are_one_folder(folder):
    one_rule = "<CORSConfiguration/>"
    values = {"buckets": {"a-bucket": one_rule}, "existingBucketsConfigMap": "b", "extraBucketsConfigMaps": ["c", "d"]}
    found = documents(render(CHART, values))
    (volume,) = [each for each in pod_of(found)["volumes"] if each["name"] == "s3cors-buckets"]
    names = [each["configMap"]["name"] for each in volume["projected"]["sources"]]
    assert names == ["demo-s3cors-buckets", "b", "c", "d"]
    validate(found, folder)


def test_values_and_schema_have_the_same_keys():
    schema = json.loads((CHART / "values.schema.json").read_text())
    assert set(schema["properties"]) - {"global"} == set(values_of(CHART / "values.yaml"))


def sidecars():
    """Pods with the sidecar: from the example and from the plain manifests."""
    for values in EXAMPLE_VALUES:
        yield documents(render(EXAMPLE, values_of(values)))
    yield list(yaml.safe_load_all((KUBERNETES / "sidecar-minio/minio.yaml").read_text()))


@pytest.mark.parametrize("found", list(sidecars()), ids=["default", "buckets", "plain"])
def test_as_a_sidecar_it_is_an_init_container_that_keeps_running(found, folder):
    validate(found, folder)
    pod = pod_of(found)
    (sidecar,) = pod["initContainers"]
    assert sidecar["name"] == "s3cors" and sidecar["restartPolicy"] == "Always"
    assert sidecar["startupProbe"] and sidecar["readinessProbe"] and sidecar["livenessProbe"]
    for container in [sidecar, *pod["containers"]]:
        assert_hardened(pod, container)
    assert of_kind(found, "Deployment") == []
    service = one(found, "Service")
    # A number, because up to Kubernetes 1.31 the name of a native sidecar's port is not found.
    assert service["spec"]["ports"][0]["targetPort"] in [port["containerPort"] for port in sidecar["ports"]]
    assert service["spec"]["ipFamilyPolicy"] == "PreferDualStack"


@pytest.mark.parametrize("found", list(sidecars()), ids=["default", "buckets", "plain"])
def test_minio_is_probed_without_the_proxy(found):
    """Otherwise its hosts and limits would affect MinIO's probes: 421 if `hosts` does not list the pod's address."""
    (minio,) = pod_of(found)["containers"]
    address = next(each for each in minio["args"] if each.startswith("--address=")).removeprefix("--address=")
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = minio[probe]["exec"]["command"]
        assert command[0] == "curl" and "--fail" in command
        assert command[-1].startswith(f"http://{address}/minio/health/")
        # curl's timeout is shorter than the kubelet's.
        assert int(command[command.index("--max-time") + 1]) < minio[probe]["timeoutSeconds"]


@pytest.mark.parametrize("values", [{}, {"stopDelaySeconds": 20}, {"s3cors": {"drain": {"deadlineSeconds": 300}}}])
def test_minio_stops_before_the_sidecar_and_each_has_its_time(values):
    pod = pod_of(documents(render(EXAMPLE, values)))
    (minio,) = pod["containers"]
    delay = minio["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert delay == values.get("stopDelaySeconds", 5)
    # A native sidecar gets its SIGTERM after the containers have ended (kubernetes.io, «Sidecar
    # containers»).
    assert [each["name"] for each in pod["initContainers"]] == ["s3cors"]
    deadline = values.get("s3cors", {}).get("drain", {}).get("deadlineSeconds", 30)
    assert pod["terminationGracePeriodSeconds"] > delay + 30 + deadline


def test_a_sidecar_is_monitored_by_the_labels_of_its_pods():
    found = documents(render(EXAMPLE, values_of(EXAMPLE_VALUES[1])))
    labels = one(found, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    monitor = one(found, "PodMonitor")["spec"]
    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    (sidecar,) = pod_of(found)["initContainers"]
    assert monitor["podMetricsEndpoints"][0]["port"] in [port["name"] for port in sidecar["ports"]]
    assert one(found, "PrometheusRule")["spec"]["groups"]


def test_pods_that_are_not_ready_do_not_block_a_node_drain():
    found = documents(render(CHART, {}))
    assert one(found, "PodDisruptionBudget")["spec"]["unhealthyPodEvictionPolicy"] == "AlwaysAllow"


def test_the_notes_suggest_nothing_that_an_upgrade_would_undo():
    notes = (CHART / "templates/NOTES.txt").read_text()
    assert not re.search(r"kubectl.* (edit|patch|apply|set)\b", notes)
    assert "helm upgrade" in notes


@pytest.mark.parametrize("chart", sorted(path.parent for path in HELM.glob("*/Chart.yaml")), ids=lambda path: path.name)
def test_no_default_is_a_policy(chart):
    """Helm merges maps: entries in values.yaml stay in addition to those that the user sets."""
    text = (chart / "values.yaml").read_text()
    documented = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    assert "CORSConfiguration" not in documented


@every_plain
def test_the_plain_manifests_are_what_the_chart_renders(where):
    chart, release, name = PLAIN[where]
    values = values_of(where / "values.yaml")
    head = f"# Made of deploy/helm/{chart.name} with values.yaml; do not edit, see ../README.md.\n---\n"
    wanted = head + plain(render(chart, values, name=release))
    path = where / name
    if os.environ.get("S3CORS_WRITE_MANIFESTS"):
        path.write_text(wanted)
    assert path.read_text() == wanted, "S3CORS_WRITE_MANIFESTS=1 tests/run deploy writes it again"


@every_plain
def test_the_api_and_s3cors_accept_what_kustomize_builds(where, folder):
    found = [each for each in yaml.safe_load_all(passes("kubectl", "kustomize", where)) if each]
    validate(found, folder)
    config = mounted(found, folder)
    passes(binary(), "check", "--config", config, "--deny-warnings")
    for method, url, origin, wanted in decisions(where / "values.yaml"):
        assert decided(config, method, url, origin) == wanted, f"{method} {url} from {origin}"
    assert ":8080" in config.read_text(), "nothing else sets the port for clients"
    for each in of_kind(found, "ConfigMap"):
        assert re.fullmatch(r"s3cors-(config|buckets)", each["metadata"]["name"]), "a hash would roll the pods"


def test_a_misspelled_key_would_be_noticed(folder):
    found = documents(render(CHART, {}))
    pod_of(found)["containers"][0]["readynessProbe"] = {}
    path = folder / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(found))
    assert run("kubernetes-validate", "--strict", path).returncode != 0


def test_the_sources_are_tidy_yaml():
    rules = "{extends: relaxed, rules: {line-length: {max: 120}, comments-indentation: disable, "
    rules += "indentation: {indent-sequences: whatever}}}"
    files = [path for path in DEPLOY.rglob("*.y*ml") if "templates" not in path.parts]
    files += (ROOT / ".github").rglob("*.y*ml")
    assert len(files) > 20
    passes("yamllint", "--strict", "--config-data", rules, *files)


def test_the_schema_is_valid():
    passes("check-jsonschema", "--check-metaschema", CHART / "values.schema.json")


def test_versions_are_the_crates():
    for chart in (CHART, EXAMPLE):
        described = values_of(chart / "Chart.yaml")
        assert (described["version"], described["appVersion"]) == (VERSION, VERSION)
        for dependency in described.get("dependencies", []):
            assert dependency["version"] == VERSION
    assert values_of(CHART / "values.yaml")["image"] | {"pullPolicy": ""} == {
        "repository": REPOSITORY, "tag": "", "digest": "", "pullPolicy": "",
    }
    for where in PLAIN:
        assert values_of(where / "kustomization.yaml")["images"] == [{"name": REPOSITORY, "newTag": VERSION}]
