"""The service's notifications to systemd, received by the tests' supervisor."""

import signal

import pytest

from proxy import policy, rule
from supervisor import Supervised, monotonic_microseconds

ARGUMENTS = (
    "--upstream=http://127.0.0.1:9",
    "--cors=cors.xml",
    "--listen=127.0.0.1:0",
    "--admin=127.0.0.1:0",
)


@pytest.fixture
def service(folder):
    (folder / "cors.xml").write_text(policy(rule(["https://a.example"])))
    with Supervised(folder, *ARGUMENTS) as service:
        service.folder = folder
        yield service


def test_it_is_ready_once_it_listens(service):
    message = service.until("READY")
    assert message == {"READY": "1", "STATUS": "serving configuration 1"}
    # It logged its address before it reported that it is ready.
    service.wait_for("listening", seconds=5)


def test_a_reload_begins_with_the_time_and_ends_with_ready(service):
    service.until("READY")
    before = monotonic_microseconds()
    service.signal(signal.SIGHUP)
    message = service.until("RELOADING")
    assert message["RELOADING"] == "1"
    assert before <= int(message["MONOTONIC_USEC"]) <= monotonic_microseconds()
    message = service.until("READY")
    assert message == {"READY": "1", "STATUS": "serving configuration 2"}


def test_a_rejected_reload_also_ends_and_reports_the_rejection(service):
    service.until("READY")
    (service.folder / "cors.xml").write_text("<CORSConfiguration>")
    service.signal(signal.SIGHUP)
    service.until("RELOADING")
    assert service.until("READY") == {
        "READY": "1",
        "STATUS": "serving configuration 1; the last change was rejected: see the log",
    }


def test_a_changed_file_is_reported_but_not_as_a_requested_reload(service):
    service.until("READY")
    (service.folder / "cors.xml").write_text(policy(rule(["https://b.example"])))
    assert service.next_message() == {"STATUS": "serving configuration 2"}


def test_it_reports_when_it_stops(service):
    service.until("READY")
    service.signal(signal.SIGTERM)
    assert service.until("STOPPING") == {"STOPPING": "1", "STATUS": "draining"}
    assert service.wait() == 0


def test_the_watchdog_is_notified_at_least_twice_per_interval(folder):
    (folder / "cors.xml").write_text(policy(rule(["https://a.example"])))
    with Supervised(folder, *ARGUMENTS, watchdog_seconds=1) as service:
        service.until("WATCHDOG")
        start = monotonic_microseconds()
        for _ in range(4):
            assert service.until("WATCHDOG") == {"WATCHDOG": "1"}
        # Four times half of its second, with a margin for a busy machine.
        assert 1_500_000 <= monotonic_microseconds() - start <= 4_000_000


def test_an_invalid_config_is_never_ready_and_not_restarted(folder):
    (folder / "cors.xml").write_text("<CORSConfiguration>")
    with Supervised(folder, *ARGUMENTS) as service:
        # RestartPreventExitStatus of the unit.
        assert service.wait() == 2
        assert service.messages == []
