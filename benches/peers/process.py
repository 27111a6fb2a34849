"""The processes of a run: starts them, reads their resource usage from the kernel, and stops them by ID."""

import os
import re
import resource
import signal
import socket
import subprocess
import time
from pathlib import Path

_started = []  # no other process is signalled


def start(command, log, **options):
    with open(log, "ab") as output:
        process = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL,
                                   stdout=output, stderr=output, start_new_session=True, **options)
    _started.append(process)
    return process


def stop(process, grace=3.0, first=signal.SIGTERM):
    """Stops a process that was started here, and its descendants."""
    family = tree(process.pid)
    for name, targets in ((first, [process.pid]), (signal.SIGKILL, family)):
        if process.poll() is not None and not any(is_alive(pid) for pid in family):
            break
        for pid in targets:
            try:
                os.kill(pid, name)
            except OSError:
                pass
        end = time.monotonic() + grace
        while time.monotonic() < end and (
                process.poll() is None or any(is_alive(pid) for pid in family[1:])):
            time.sleep(0.02)
    try:
        process.wait(timeout=grace)
    except subprocess.TimeoutExpired:
        pass
    if process in _started:
        _started.remove(process)


def stop_all():
    for process in list(_started):
        stop(process)


def is_alive(pid):
    return os.path.exists(f"/proc/{pid}")


def tree(pid):
    """The process and its descendants."""
    children = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                stat = Path(f"/proc/{name}/stat").read_text()
            except OSError:
                continue
            parent = int(stat.rsplit(")", 1)[1].split()[1])
            children.setdefault(parent, []).append(int(name))
    found, todo = [], [pid]
    while todo:
        one = todo.pop()
        if is_alive(one):
            found.append(one)
        todo += children.get(one, [])
    return found


def cpu_seconds(pids):
    """CPU time of whole processes, including ended threads, from the kernel's clock of each."""
    total = 0
    for pid in pids:
        try:
            # The clock ID of a process, computed like clock_getcpuclockid(3) does.
            total += time.clock_gettime_ns((~pid << 3) | 2)
        except OSError:
            pass
    return total / 1e9


def kernel_share(before, after):
    user, system = after[0] - before[0], after[1] - before[1]
    return system / (user + system) if user + system else None


def user_and_system(pids):
    """Ticks in user space and in the kernel."""
    user = system = 0
    for pid in pids:
        try:
            stat = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        user += int(stat[11])
        system += int(stat[12])
    return user, system


def context_switches(pids):
    count = 0
    for pid in pids:
        try:
            for status in Path(f"/proc/{pid}/task").glob("*/status"):
                count += sum(map(int, re.findall(r"ctxt_switches:\s+(\d+)", status.read_text())))
        except OSError:
            pass
    return count


def memory_kib(pids, key):
    """A line of /proc: `VmRSS`, `VmHWM` (its peak), or `Pss` (a proportional share of shared pages)."""
    file = "smaps_rollup" if key == "Pss" else "status"
    total = 0
    for pid in pids:
        try:
            found = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{pid}/{file}").read_text(), re.M)
        except OSError:
            continue
        total += int(found.group(1)) if found else 0
    return total


def forget_peak(pids):
    for pid in pids:
        try:
            Path(f"/proc/{pid}/clear_refs").write_text("5")
        except OSError:
            pass


def machine_seconds():
    """CPU time of the whole machine since its start, and the time stolen by its host."""
    times = [int(word) for word in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    ticks = os.sysconf("SC_CLK_TCK")
    user, nice, system, _idle, _wait, irq, softirq, stolen = times[:8]
    return (user + nice + system + irq + softirq) / ticks + stolen / ticks


def own_seconds():
    """CPU time of this program and the load generators that have ended."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


_last_port = int(os.environ.get("BENCH_PORT", "21000"))


def free_port():
    """A free port on 127.0.0.1 below the range for outgoing connections."""
    global _last_port
    for _ in range(4000):
        _last_port += 1
        with socket.socket() as one:
            try:
                one.bind(("127.0.0.1", _last_port))
                return _last_port
            except OSError:
                continue
    raise SystemExit("no free port on 127.0.0.1")
