"""Figures that do not depend on load: instructions and system calls of a request.
Also CPU profiles, to find what to optimise."""

import re
import shutil
import signal
import subprocess
import time

import load
import process
from client import Client
from contenders import CONTENDERS, Instance
from testbed import OTHER_PAGE, PAGE, preflight

FEW, MANY = 300, 1300

# Name: the request, and the load that sends it.
REQUESTS = {
    "preflight": (("OPTIONS", "/1k", preflight(PAGE)), load.allowed),
    "preflight-refused": (("OPTIONS", "/1k", preflight(OTHER_PAGE)), load.refused),
    "get1k": (("GET", "/1k", [("Origin", PAGE)]), load.get),
}


# Loads for counting system calls and profiling CPU.
LOADS = {kind: run for kind, (_, run) in REQUESTS.items()} | {"tls1k-h2": load.http2}


def instructions(testbed, name):
    """In user space, with one worker. The difference of two runs excludes the start."""
    counts = {"errors": 0}
    kinds = [(kind, request, "plain") for kind, (request, _) in REQUESTS.items()]
    if "log" in CONTENDERS[name].does:
        kinds.append(("get1k-edge", REQUESTS["get1k"][0], "edge"))
    for kind, request, variant in kinds:
        if not kind.startswith("get1k") and "cors" not in CONTENDERS[name].does:
            continue
        few, many = (_instructions(testbed, name, request, count, variant) for count in (FEW, MANY))
        counts[kind] = (many - few) / (MANY - FEW)
    return counts


def _instructions(testbed, name, request, count, variant):
    log = testbed.folder / "valgrind.log"
    log.unlink(missing_ok=True)
    instance = Instance(testbed, name, variant, workers=1, under=[
        "valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
        f"--log-file={log}"])
    with Client(instance.port) as client:
        for _ in range(count):
            client.ask(*request)
    # A quick stop, after which valgrind reports.
    process.stop(instance.process, grace=20, first=signal.SIGINT)
    return int(re.search(r"I\s*refs:\s+([\d,]+)", log.read_text()).group(1).replace(",", ""))


def system_calls(instance, kind, seconds):
    """System calls of a request with 64 connections or streams, over all threads, counted by strace."""
    run = LOADS[kind]
    run(instance, 1)
    table = instance.folder / "strace"
    attach = [word for pid in instance.pids() for word in ("-p", pid)]
    tracer = process.start(["strace", "-c", "-f", "-o", table, *attach], instance.folder / "strace.log")
    _wait_for_attached(instance.folder / "strace.log")
    took = run(instance, seconds)
    process.stop(tracer, first=signal.SIGINT)
    calls = read_strace(table.read_text())
    calls = {name: count / took["requests"] for name, count in calls.items()}
    return {"all": sum(calls.values()), "errors": took["errors"],
            "calls": {name: round(count, 2) for name, count in calls.items() if count >= 0.005}}


def _wait_for_attached(log):
    """Waits until strace(1) has attached to each process; its threads follow within half a second."""
    end = time.monotonic() + 10
    while "attached" not in log.read_text() and time.monotonic() < end:
        time.sleep(0.05)
    time.sleep(0.5)


def read_strace(table):
    """Counts by call, the most frequent first."""
    counts = {}
    for line in table.splitlines():
        row = re.match(r"\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", line)
        if row and row.group(2) != "total":
            counts[row.group(2)] = int(row.group(1))
    return dict(sorted(counts.items(), key=lambda row: -row[1]))


def profile(instance, kind, seconds):
    """CPU time by binary and by function, from perf."""
    if not shutil.which("perf"):
        raise SystemExit("perf is not installed; Debian has it as linux-perf")
    run = LOADS[kind]
    run(instance, 1)
    data = instance.folder / "perf.data"
    pids = ",".join(map(str, instance.pids()))
    recorder = process.start(["perf", "record", "-q", "-e", "cpu-clock", "-F", "997", "-o", data, "-p", pids],
                             instance.folder / "perf.log")
    run(instance, seconds)
    process.stop(recorder, grace=15, first=signal.SIGINT)
    lines = []
    for key, most in (("dso", 8), ("sym", 40)):
        report = subprocess.run(["perf", "report", "-i", data, "--stdio", "--no-inline", "-q", "--sort", key],
                                capture_output=True, text=True, timeout=120)
        lines += [line.strip() for line in report.stdout.splitlines() if line.strip()][:most] + [""]
    return "\n".join(lines)
