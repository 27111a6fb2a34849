"""Prometheus and the dashboard with the running program: everything that they query exists."""

import json
import re
import socket
import subprocess
import time
import urllib.error

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

import proxy
from places import DEPLOY, ROOT, tool
from prometheus import Alertmanager, Prometheus
from proxy import policy, route, rule
from test_prometheus_rules import RULES, rules
from upstreams import Small

DASHBOARD = DEPLOY / "grafana/dashboard.json"
PROVISIONING = DEPLOY / "grafana/provisioning"
ALLOWED = "https://app.example"

# Grafana's replacements for its variables.
VARIABLES = {"$__rate_interval": "1m", "$__range": "5m", "$route": ".*", "$job": "s3cors", "$namespace": ".*", "$instance": ".*"}

# Plugin settings that Grafana's schema does not define.
OPEN_KEYS = {"/templating/list/definition", "/annotations/list/titleFormat", "/annotations/list/textFormat"}


def dashboard():
    return json.loads(DASHBOARD.read_text())


def panels():
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def asked():
    """Every query of the dashboard, unchanged, with its place."""
    for panel in panels():
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in dashboard()["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]


def queries():
    """The same with Grafana's variables replaced."""
    found = dict(asked())
    for name, text in VARIABLES.items():
        found = {where: query.replace(name, text) for where, query in found.items()}
    return found


@pytest.fixture(scope="module")
def alertmanager():
    with Alertmanager() as running:
        yield running


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    return tmp_path_factory.mktemp("prometheus")


@pytest.fixture(scope="module")
def served(workplace):
    """A proxy with all metrics: two listeners, one with TLS, an upstream that is down, and buckets with the CORS API."""
    subprocess.run(
        [tool("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=s3.example", "-addext", "subjectAltName=DNS:s3.example", "-days", "30",
         "-keyout", "site.key", "-out", "site.crt"],
        cwd=workplace, check=True, capture_output=True,
    )  # fmt: skip
    (workplace / "cors.xml").write_text(policy(rule([ALLOWED])))
    (workplace / "buckets").mkdir()
    (workplace / "keys.toml").write_text('[[key]]\nid = "AKIA1"\nsecret = "not a real one"\nbuckets = ["*"]\n')
    (workplace / "keys.toml").chmod(0o600)
    # The socket is bound but does not listen, so connections are refused.
    with Small() as upstream, socket.socket() as down:
        down.bind(("127.0.0.1", 0))
        listener = '[[listen]]\naddress = "127.0.0.1:0"\ntls = [{ certificate = "site.crt", key = "site.key" }]\n'
        routes = [
            route("photos", ["photos.example"], upstream.url, cors="cors.xml"),
            route("down", ["down.example"], f"http://127.0.0.1:{down.getsockname()[1]}"),
            route("buckets", ["buckets.example"], upstream.url, buckets={"directory": "buckets", "address": "path"},
                  cors_api={"authorize": "keys", "keys": "keys.toml"}),
        ]
        config = proxy.config(*routes).replace("[admin]", f"{listener}\n[admin]")
        (workplace / "s3cors.toml").write_text(config)
        with proxy.S3cors(workplace) as running:
            yield running


@pytest.fixture(scope="module")
def prometheus(workplace, served, alertmanager):
    """Prometheus with the shipped rules, but without waiting times, and evaluated at once."""
    hasty = workplace / "rules.yaml"
    hasty.write_text(re.sub(r"(?m)^ +(for|interval): .*\n", "", RULES.read_text()))
    # The same texts for a condition that is always true, to test their templates.
    certain = [alert | {"alert": f"Words{name}", "expr": "vector(1)"} for name, alert in rules("alert").items()]
    certain = [{key: value for key, value in alert.items() if key != "for"} for alert in certain]
    words = workplace / "words.yaml"
    words.write_text(yaml.safe_dump({"groups": [{"name": "words", "rules": certain}]}))
    target = f"127.0.0.1:{served.admin_port}"
    with Prometheus(workplace, target, [hasty, words], alertmanager) as running:
        yield running


def one_of_each(served):
    """Requests that are allowed, refused for each reason, or fail."""
    for origin, method, headers in [
        (ALLOWED, "GET", ""),
        (ALLOWED, "DELETE", ""),
        (ALLOWED, "GET", "x-nobody"),
        ("https://evil.example", "GET", ""),
    ]:
        fields = {"Host": "photos.example", "Origin": origin, "Access-Control-Request-Method": method}
        served.request("OPTIONS", "/cat.jpg", fields | ({"Access-Control-Request-Headers": headers} if headers else {}))
    served.request("GET", "/cat.jpg", {"Host": "photos.example", "Origin": ALLOWED})
    served.request("GET", "/cat.jpg", {"Host": "photos.example", "Origin": "https://evil.example"})
    status, _, _ = served.request("GET", "/cat.jpg", {"Host": "down.example"})
    assert status == 502
    status, _, _ = served.request("GET", "/photos?cors", {"Host": "buckets.example"})
    assert status == 403


def until(true, served, seconds=60):
    """Repeats requests and checks until the condition holds: rates need increases between scrapes."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            return False
        one_of_each(served)
    return True


@pytest.mark.parametrize("where", queries())
def test_every_query_of_the_dashboard_returns_data(where, served, prometheus):
    query = queries()[where]
    if where == "annotation Reloads":
        # Without an applied reload, there is nothing to annotate.
        query = query.removesuffix(" > 0")
    assert until(lambda: prometheus.query(query), served), query


@pytest.mark.parametrize("name", rules("record"))
def test_every_recording_rule_records(name, served, prometheus):
    assert until(lambda: prometheus.query(name), served)


def test_every_metric_that_is_mentioned_exists(served, prometheus):
    """In alerts and their annotations, in the dashboard, and in every page."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "config").rglob("*.md"), *DEPLOY.rglob("*.md")]
    texts = [RULES, DASHBOARD, *pages]
    assert len(texts) > 8
    named = {name: text for text in texts for name in re.findall(METRIC, text.read_text())}
    # Exported only while a file is not in force; the test of the alert for a broken reload queries
    # it.
    del named["s3cors_config_out_of_date_since_timestamp_seconds"]
    # Exported only with a bucket of policies; clients/test_bucket_store.py reads it.
    del named["s3cors_cors_api_store_out_of_date_seconds"]
    assert {"s3cors_ready", "process_open_fds", "route:s3cors_requests:rate5m"} <= set(named)
    for name, text in named.items():
        # A histogram is mentioned without the suffixes of its series.
        histogram = [name, f"{name}_count"]
        assert until(lambda: any(map(prometheus.query, histogram)), served), f"{name} in {text}"


METRIC = r"\b(?:(?:s3cors|process)_[a-z0-9_]+|route(?:_reason)?:[a-z0-9_:]+)"


def test_an_alert_for_a_broken_reload_fires_and_clears(workplace, served, prometheus, alertmanager):
    file = workplace / "cors.xml"
    good = file.read_text()
    file.write_text(good.replace("GET", "FETCH"))
    alert = alertmanager.next("S3corsConfigOutOfDate", ended=False)
    assert alert["labels"]["severity"] == "warning"
    assert alert["labels"]["instance"] == f"127.0.0.1:{served.admin_port}"
    assert alert["annotations"]["summary"].endswith("does not serve what its files say")
    # The check that the alert recommends names the file.
    (problem,) = served.status()["problems"]
    assert problem["file"].endswith("cors.xml") and "FETCH" in problem["error"]
    assert prometheus.query("s3cors_config_out_of_date_since_timestamp_seconds")
    file.write_text(good)
    alertmanager.next("S3corsConfigOutOfDate", ended=True)
    assert until(lambda: prometheus.query('ALERTS{alertname="S3corsConfigOutOfDate"}') == [], served)


def test_the_texts_of_every_alert_can_be_rendered(served, prometheus):
    def written():
        alerts = prometheus.ask("alerts")["alerts"]
        return [alert for alert in alerts if alert["labels"]["alertname"].startswith("Words")]

    assert until(lambda: len(written()) == len(rules("alert")), served)
    for alert in written():
        assert "<error" not in json.dumps(alert["annotations"]), alert


# Each would create a file in a shell that runs it. The first one is a case that occurred.
HOSTILE = [
    "https://x.example;{touch,ran}|sh",
    "https://x.example$(touch ran)",
    "https://x.example`touch ran`",
    "https://x.example'; touch ran; '",
    'https://x.example"; touch ran; "',
    "touch ran",
    "https://x.example\ntouch ran",
    "https://x.example&&touch ran",
    "https://x.example|touch ran",
    "https://x.example>ran",
    "$(touch ran)",
    "~/{touch,ran}",
    "https://x.example<(touch ran)",
    "https://x.example#\n touch ran\n",
    "{{ `touch ran` }}",
    "\u2028touch ran\u2028",
]


def test_hostile_origins_in_annotations_run_nothing_in_a_shell(workplace, served, alertmanager, folder):
    """Every alert's texts with a hostile origin as its label, pasted into a shell: whole, line by line, and the parts in backticks."""
    made = [
        alert | {
            "alert": f"Hostile{number}{name}",
            "expr": f"label_replace(vector(1), \"origin\", {json.dumps(origin)}, \"\", \"\")",
        }
        for name, alert in rules("alert").items()
        for number, origin in enumerate(HOSTILE)
        if "origin" in json.dumps(alert["annotations"]) or name == "S3corsDown"
    ]  # fmt: skip
    # `label_replace` reads $1 as a group, and writes $ for $$.
    for rule in made:
        rule.pop("for", None)
        rule["expr"] = rule["expr"].replace("$", "$$")
    (folder / "hostile.yaml").write_text(yaml.safe_dump({"groups": [{"name": "hostile", "rules": made}]}))
    with Prometheus(folder, f"127.0.0.1:{served.admin_port}", [folder / "hostile.yaml"], alertmanager) as running:
        assert until(lambda: len(running.ask("alerts")["alerts"]) == len(made), served)
        alerts = running.ask("alerts")["alerts"]
    assert {alert["labels"]["origin"] for alert in alerts} == set(HOSTILE)
    texts = [text for alert in alerts for text in alert["annotations"].values()]
    commands = {command for text in texts for command in re.findall(r"`([^`]*)`", text)}
    assert any("x.example" in text for text in texts), "the origin is shown, as far as that is harmless"
    programs = folder / "bin"
    programs.mkdir()
    for name in ("touch", "sh"):
        (programs / name).symlink_to(tool(name))
    pasted = folder / "pasted"
    pasted.mkdir()
    for shell in ("bash", "sh"):
        for text in {*texts, *commands, *(line for text in texts for line in text.splitlines())}:
            variables = {"PATH": str(programs), "HOME": str(pasted)}
            subprocess.run([tool(shell), "-c", text], cwd=pasted, env=variables, capture_output=True, check=False)
            assert not list(pasted.iterdir()), f"{shell} ran something in: {text}"
    # A shell that would run it creates the file.
    subprocess.run([tool("bash"), "-c", f"echo {HOSTILE[0]}"], cwd=pasted, env={"PATH": str(programs)}, check=False)
    assert list(pasted.iterdir())


def test_an_invalid_query_would_be_noticed(prometheus):
    with pytest.raises(urllib.error.HTTPError):
        prometheus.query("sum by (route (s3cors_requests_total)")
    assert prometheus.query("s3cors_no_such_metric") == []


def test_the_dashboard_matches_grafanas_schema():
    register_default_plugins()
    raw = dashboard()
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(raw)))
    assert set(differences(raw, known)) <= OPEN_KEYS


def test_a_misspelled_key_of_the_dashboard_would_be_noticed():
    raw = dashboard()
    raw["panels"][1]["fieldConfig"]["defaults"]["unti"] = "s"
    known = json.loads(JSONEncoder().encode(Dashboard.from_json(raw)))
    assert "/panels/fieldConfig/defaults/unti" in set(differences(raw, known))


def differences(raw, known, path=""):
    """The places where a document loses something when converted through the schema's types."""
    if isinstance(raw, dict) and isinstance(known, dict):
        for key, value in raw.items():
            if key in known:
                yield from differences(value, known[key], f"{path}/{key}")
            else:
                yield f"{path}/{key}"
    elif isinstance(raw, list) and isinstance(known, list) and len(raw) == len(known):
        for one, other in zip(raw, known):
            yield from differences(one, other, path)
    elif raw != known:
        yield path


def test_the_dashboards_panels_have_unique_ids_and_places_and_have_units():
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(set(ids)) == len(ids) > 20
    taken = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels():
        overrides = [each for override in panel["fieldConfig"]["overrides"] for each in override["properties"]]
        units = [each["value"] for each in overrides if each["id"] == "unit"]
        assert panel["fieldConfig"]["defaults"].get("unit") or units, panel["title"]


def test_the_dashboard_takes_data_source_and_routes_from_its_variables():
    variables = {each["name"]: each for each in dashboard()["templating"]["list"]}
    assert set(variables) == {"datasource", "job", "namespace", "instance", "route"}
    # Only the jobs of s3cors, because other programs also have process_… metrics.
    assert "allValue" not in variables["job"] and "s3cors_build_info" in variables["job"]["definition"]
    for where, query in asked():
        metrics = re.findall(r"\b(?:s3cors|process)_[a-z0-9_]+", query)
        selected = re.findall(r"\b(?:s3cors|process)_[a-z0-9_]+\{job=~\"\$job\",namespace=~\"\$namespace\",instance=~\"\$instance\"", query)
        assert len(metrics) == len(selected) > 0, where
    assert variables["datasource"]["type"] == "datasource"
    for panel in panels():
        for source in [panel["datasource"], *[target["datasource"] for target in panel["targets"]]]:
            assert source == {"type": "prometheus", "uid": "${datasource}"}, panel["title"]
    by_route = [target["expr"] for panel in panels() for target in panel["targets"]]
    # Those of an upstream's connections belong to no route: several may share it.
    of_routes = r"s3cors_(requests|cors|request|denied|allowed|client|upstream_(?!connect|queue))"
    by_route = [query for query in by_route if re.search(of_routes, query)]
    assert by_route and all('route=~"$route"' in query for query in by_route)


def test_provisioning_files_name_each_other_and_the_shipped_prometheus():
    (provider,) = yaml.safe_load((PROVISIONING / "dashboards/s3cors.yaml").read_text())["providers"]
    assert provider["options"]["path"] in (DEPLOY / "grafana/README.md").read_text()
    (source,) = yaml.safe_load((PROVISIONING / "datasources/prometheus.yaml").read_text())["datasources"]
    shipped = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())
    assert source["jsonData"]["timeInterval"] == shipped["global"]["scrape_interval"]
