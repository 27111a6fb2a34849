"""wrk, asking others.example at a pace: preflights and actual requests in turn, and what it has counted of them."""

import dataclasses
import pathlib
import re

from programs import Program

SCRIPT = pathlib.Path(__file__).with_suffix(".lua")
# As many as a site with few visitors has, so that it is the proxy's time that is seen and not wrk's.
CONNECTIONS = 8
REST_MILLISECONDS = 10


def start(url, connections=CONNECTIONS, rest=REST_MILLISECONDS, seconds=86400):
    """wrk, each of its connections resting for `rest` milliseconds between two requests."""
    options = ["-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", SCRIPT]
    return Program("wrk", ["wrk", *options, url, "--", rest])


@dataclasses.dataclass
class Counted:
    """What wrk says in the end."""

    answers: int
    # Answers other than 200, and what went wrong with connections.
    failed: int
    p99_milliseconds: float

    def __str__(self):
        return f"{self.p99_milliseconds:.1f} ms"


def counted(load):
    """What it has counted, once its time is over or it was told to stop."""
    assert load.wait() == 0, load.output
    figures = {name: int(value) for name, value in re.findall(r"^(\w+)=(\d+)$", load.output, re.MULTILINE)}
    failed = sum(value for name, value in figures.items() if name == "failed" or name.startswith("error_"))
    return Counted(figures["answers"], failed, figures["p99_microseconds"] / 1000)


def stopped(load):
    """Tells it to stop; what it has counted."""
    load.signal(2)
    return counted(load)


def for_a_while(url, seconds, connections=CONNECTIONS, rest=REST_MILLISECONDS):
    """Some seconds of it, and what it has counted: each request was answered."""
    with start(url, connections, rest, seconds) as load:
        found = counted(load)
    assert found.answers > 0 and found.failed == 0, load.output
    return found
