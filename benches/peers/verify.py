"""Checks a contender's responses before it is measured."""

from client import Client
from contenders import Instance
from testbed import OTHER_PAGE, PAGE, preflight


def verify(testbed, name):
    """The failed checks, as text; empty if all pass."""
    instance = Instance(testbed, name)
    try:
        with Client(instance.port) as client:
            checks = forwarded(client, testbed)
            if "cors" in instance.does:
                checks |= allowed_preflight(client) | refused_preflight(client)
                checks |= marked(client) | unmarked(client)
    finally:
        instance.stop()
    return [rule for rule, holds in checks.items() if not holds]


def forwarded(client, testbed):
    checks = {}
    for path in ("/1k", "/100k"):
        status, fields, body = client.ask("GET", path)
        there = (testbed.files / path[1:]).read_bytes()
        checks[f"{path} is the upstream's"] = status == 200 and "x-upstream" in fields and body == there
    return checks


def allowed_preflight(client):
    status, fields, _ = client.ask("OPTIONS", "/1k", preflight(PAGE))
    cors = lambda name: fields.get(f"access-control-{name}", "")
    return {
        "an allowed preflight is answered by the proxy": status in (200, 204) and "x-upstream" not in fields,
        "it names the origin": cors("allow-origin") == PAGE,
        "it names the method": "PUT" in cors("allow-methods"),
        "it names the headers": {"content-type", "x-amz-date"} <= words(cors("allow-headers")),
        "it may be cached": cors("max-age") == "3000",
        "it allows credentials": cors("allow-credentials") == "true",
        "it varies by origin": "origin" in words(fields.get("vary", "")),
    }


def refused_preflight(client):
    status, fields, _ = client.ask("OPTIONS", "/1k", preflight(OTHER_PAGE))
    return {
        "a refused preflight is answered by the proxy": status == 403 and "x-upstream" not in fields,
        "it allows nothing": "access-control-allow-origin" not in fields,
    }


def marked(client):
    status, fields, _ = client.ask("GET", "/1k", [("Origin", PAGE)])
    cors = lambda name: fields.get(f"access-control-{name}", "")
    return {
        "a response names the origin": status == 200 and cors("allow-origin") == PAGE,
        "it may be read with credentials": cors("allow-credentials") == "true",
        "its fields may be read": {"etag", "x-amz-request-id"} <= words(cors("expose-headers")),
        "a response varies by origin": "origin" in words(fields.get("vary", "")),
    }


def unmarked(client):
    status, fields, _ = client.ask("GET", "/1k", [("Origin", OTHER_PAGE)])
    return {
        "another page's request is forwarded": status == 200 and "x-upstream" in fields,
        "and its response names no origin": "access-control-allow-origin" not in fields,
    }


def words(value):
    return {word.strip().lower() for word in value.split(",")}
