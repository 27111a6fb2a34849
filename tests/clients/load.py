"""Runs wrk against others.example at a fixed pace, alternating preflights and actual requests, and returns its counts."""

import dataclasses
import pathlib
import re

from programs import Program

SCRIPT = pathlib.Path(__file__).with_suffix(".lua")
# Few connections, like those of a small site, so that the proxy's time is measured and not wrk's.
CONNECTIONS = 8
REST_MILLISECONDS = 10


def start(url, connections=CONNECTIONS, rest=REST_MILLISECONDS, seconds=86400):
    """wrk, whose connections pause for `rest` milliseconds between requests."""
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", SCRIPT]
    return Program("wrk", ["wrk", *options, url, "--", rest])


@dataclasses.dataclass
class Counted:
    """wrk's final report."""

    answers: int
    # Responses other than 200, and errors of connections.
    failed: int
    p99_milliseconds: float

    def __str__(self):
        return f"{self.p99_milliseconds:.1f} ms"


def counted(load):
    """Its counts, after its time is over or it was stopped."""
    assert load.wait() == 0, load.output
    figures = {name: int(value) for name, value in re.findall(r"^(\w+)=(\d+)$", load.output, re.MULTILINE)}
    failed = sum(value for name, value in figures.items() if name == "failed" or name.startswith("error_"))
    return Counted(figures["answers"], failed, figures["p99_microseconds"] / 1000)


def stopped(load):
    """Stops it and returns its counts."""
    load.signal(2)
    return counted(load)


def for_a_while(url, seconds, connections=CONNECTIONS, rest=REST_MILLISECONDS):
    """Runs it for some seconds and returns its counts; every request must have been answered."""
    with start(url, connections, rest, seconds) as load:
        found = counted(load)
    assert found.answers > 0 and found.failed == 0, load.output
    return found
