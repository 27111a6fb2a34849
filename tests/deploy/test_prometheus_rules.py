"""Metrics and rules, checked with Prometheus' promtool."""

import re

import pytest
import yaml

import proxy
from places import DEPLOY, passes, run
from upstreams import Small

PROMETHEUS = DEPLOY / "prometheus"
RULES = PROMETHEUS / "rules.yaml"
TESTS = PROMETHEUS / "rules.test.yaml"
WEEK = PROMETHEUS / "healthy-week.test.yaml"
EVERY_TEST = sorted(PROMETHEUS.glob("*.test.yaml"))
RUNBOOK = DEPLOY / "troubleshooting/alerts.md"


def rules(kind):
    """The rules of a kind, `alert` or `record`, by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def test_promtool_accepts_the_rules():
    passes("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_promtool_accepts_the_config_and_finds_its_rules():
    assert "rule file" in passes("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


@pytest.mark.parametrize("path", EVERY_TEST, ids=lambda path: path.name)
def test_each_rule_passes_its_unit_test(path):
    passes("promtool", "test", "rules", path)


def test_a_rule_with_another_threshold_would_be_noticed(folder):
    text = RULES.read_text()
    (folder / "rules.yaml").write_text(text.replace("s3cors_ready == 0", "s3cors_ready == 1"))
    (folder / TESTS.name).write_text(TESTS.read_text())
    assert run("promtool", "test", "rules", folder / TESTS.name).returncode == 1


def every_test():
    return "\n".join(path.read_text() for path in EVERY_TEST)


@pytest.mark.parametrize("name", rules("alert"))
def test_every_alert_has_a_unit_test_where_it_fires(name):
    by_series, by_words = rf'alertname="{name}", alertstate="firing"', rf"alertname: {name}\n.+\n +exp_alerts:\n +- "
    assert re.search(f"{by_series}|{by_words}", every_test())


@pytest.mark.parametrize("name", rules("record"))
def test_every_recording_rule_has_a_unit_test(name):
    assert name in every_test()


def test_the_healthy_week_has_every_metric_that_an_alert_uses():
    """Otherwise silent alerts would prove nothing."""
    wanted = set()
    for rule in [*rules("record").values(), *rules("alert").values()]:
        wanted |= set(re.findall(r"\b(?:(?:s3cors|process)_[a-z0-9_]+|up\b)", rule["expr"]))
    # Histograms appear as their buckets.
    wanted = {name for name in wanted if not name.startswith("s3cors_requests_5xx")}
    shown = set(re.findall(r"\b(?:s3cors|process)_[a-z0-9_]+|\bup(?=\{)", WEEK.read_text()))
    assert {"up", "s3cors_connections_refused_total", "process_open_fds"} <= wanted
    missing = {name for name in wanted if name not in shown and not re.search(rf"[:]{name}", RULES.read_text())}
    assert not missing, missing


FAULTS = {
    "S3corsDown": ('up{job="s3cors", instance="a"}\', values: "1x5758 0 1x4319"', 'up{job="s3cors", instance="a"}\', values: "1x5758 0x15 1x4304"'),
    "S3corsErrorBudgetBurnsSlowly": ('"0+0.6x5759 0+0.6x4319"', '"0+12x5759 0+12x4319"'),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_in_the_week_would_be_noticed(name, folder):
    before, after = FAULTS[name]
    text = WEEK.read_text()
    assert before in text
    (folder / "rules.yaml").write_text(RULES.read_text())
    (folder / WEEK.name).write_text(text.replace(before, after).replace("evaluation_interval: 5m", "evaluation_interval: 10m"))
    done = run("promtool", "test", "rules", folder / WEEK.name)
    assert done.returncode == 1 and f'alertname="{name}"' in done.stdout


@pytest.mark.parametrize("name", rules("alert"))
def test_every_alert_has_a_runbook_and_leads_to_it(name):
    link = rules("alert")[name]["annotations"]["runbook_url"]
    assert link == f"{RUNBOOK.relative_to(DEPLOY.parent)}#{name.lower()}"
    (section,) = re.findall(rf"^## {name}\n(.*?)(?=^## |\Z)", RUNBOOK.read_text(), re.MULTILINE | re.DOTALL)
    assert re.search(r"^1\. |^\| |\]\(#", section, re.MULTILINE), "a runbook says what to do"


def test_every_section_of_the_runbook_belongs_to_an_alert():
    sections = re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE)
    assert sections == list(rules("alert"))


@pytest.mark.parametrize("name,rule", rules("alert").items())
def test_no_label_is_part_of_a_command(name, rule):
    """Text in backticks is pasted into shells, and a label such as an origin would be pasted with it."""
    for text in rule["annotations"].values():
        for command in re.findall(r"`([^`]*)`", text):
            assert "{{" not in command, f"{name}: {command}"


@pytest.mark.parametrize("name,alert", rules("alert").items())
def test_every_alert_states_the_problem_and_what_to_do(name, alert):
    assert name.startswith("S3cors")
    assert alert["labels"]["severity"] in ("critical", "warning")
    summary, description = alert["annotations"]["summary"], alert["annotations"]["description"]
    assert summary and not summary.endswith(".")
    assert description.endswith(".")


def test_promtool_finds_no_problems_in_the_metrics(folder):
    with Small() as upstream, proxy.S3cors(folder, proxy.route("photos", "*", upstream.url)) as served:
        assert served.request("GET", "/cat.jpg")[0] == 200
        _, text = served.admin("/metrics")
    assert "s3cors_requests_total" in text
    page = folder / "metrics"
    page.write_text(text)
    with page.open() as stdin:
        assert passes("promtool", "check", "metrics", stdin=stdin) == ""
    page.write_text(text.replace("s3cors_requests_total", "s3cors_requests"))
    with page.open() as stdin:
        assert run("promtool", "check", "metrics", stdin=stdin).returncode == 3
