"""Metrics and rules, by the tool that Prometheus brings for them."""

import re

import pytest
import yaml

import proxy
from places import DEPLOY, passes, run
from upstreams import Small

PROMETHEUS = DEPLOY / "prometheus"
RULES = PROMETHEUS / "rules.yaml"
TESTS = PROMETHEUS / "rules.test.yaml"


def rules(kind):
    """The rules of a kind, `alert` or `record`, by name."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return {rule[kind]: rule for group in groups for rule in group["rules"] if kind in rule}


def test_promtool_takes_the_rules():
    passes("promtool", "check", "rules", "--lint=all", "--lint-fatal", RULES)


def test_promtool_takes_the_config_and_finds_its_rules():
    assert "rule file" in passes("promtool", "check", "config", PROMETHEUS / "prometheus.yml")


def test_each_rule_does_what_its_unit_test_says():
    passes("promtool", "test", "rules", TESTS)


def test_a_rule_of_another_threshold_would_be_noticed(folder):
    text = RULES.read_text()
    (folder / "rules.yaml").write_text(text.replace("s3cors_ready == 0", "s3cors_ready == 1"))
    (folder / TESTS.name).write_text(TESTS.read_text())
    assert run("promtool", "test", "rules", folder / TESTS.name).returncode == 1


@pytest.mark.parametrize("name", rules("alert"))
def test_every_alert_has_a_unit_test_where_it_fires(name):
    by_series, by_words = rf'alertname="{name}", alertstate="firing"', rf"alertname: {name}\n.+\n +exp_alerts:\n"
    assert re.search(f"{by_series}|{by_words}", TESTS.read_text())


@pytest.mark.parametrize("name", rules("record"))
def test_every_recording_rule_has_a_unit_test(name):
    assert name in TESTS.read_text()


@pytest.mark.parametrize("name,alert", rules("alert").items())
def test_every_alert_says_what_is_so_and_what_to_do(name, alert):
    assert name.startswith("S3cors")
    assert alert["labels"]["severity"] in ("critical", "warning")
    summary, description = alert["annotations"]["summary"], alert["annotations"]["description"]
    assert summary and not summary.endswith(".")
    assert description.endswith(".")


def test_promtool_has_nothing_against_the_metrics(folder):
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
