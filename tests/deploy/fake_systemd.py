"""The parts of systemd that a package upgrade needs: starts and stops units, and passes sockets to them.

Maintainer scripts call `systemctl`, which is a script here that calls this class. It handles
ExecStart, Environment, Sockets and Type=notify like systemd.service(5).
"""

import json
import pathlib
import shlex
import signal
import socket
import subprocess
import sys
import threading

from programs import Failed
from supervisor import Supervised

SYSTEMCTL = """#!{python}
import json, socket, sys
asked = socket.socket(socket.AF_UNIX)
asked.connect({address!r})
asked.sendall(json.dumps(sys.argv[1:]).encode() + b"\\n")
code, text = json.loads(asked.makefile().read())
sys.stdout.write(text)
sys.exit(code)
"""
STOP_SECONDS = 45


class Systemd:
    """Runs units from these folders, in order; `sockets` are those of active socket units, by FileDescriptorName."""

    def __init__(self, folder: pathlib.Path, units, variables=None, sockets=None):
        self._folder = folder
        self._units = units
        self._variables = variables or {}
        # Unit → (FileDescriptorName, socket).
        self._sockets = sockets or {}
        self.running = {}
        # What was done, in order: ("stopping", "s3cors.service") and similar.
        self.done = []
        self._changed = threading.Condition()
        (folder / "bin").mkdir()
        address = str(folder / "systemctl")
        script = folder / "bin/systemctl"
        script.write_text(SYSTEMCTL.format(python=sys.executable, address=address))
        script.chmod(0o755)
        self.path = str(folder / "bin")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(address)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                arguments = json.loads(connection.makefile().readline())
                connection.sendall(json.dumps(self.call(arguments)).encode())

    def call(self, arguments):
        """`systemctl` with these arguments: its exit code and output."""
        verb, *units = [each for each in arguments if not each.startswith("--")]
        if verb == "daemon-reload":
            return 0, ""
        (unit,) = units
        if verb == "cat":
            return 0, self._text(unit)
        if verb == "is-active":
            return (0 if self.is_active(unit) else 3), ""
        if verb == "stop":
            self._stop(unit)
            return 0, ""
        if verb == "start":
            return (0 if self.is_active(unit) or self._start(unit) else 1), ""
        if verb == "restart":
            self._stop(unit)
            return (0 if self._start(unit) else 1), ""
        raise AssertionError(f"systemctl {verb} is not known here")

    def is_active(self, unit):
        return unit in self._sockets or (unit in self.running and self.running[unit].process.poll() is None)

    def wait_until(self, what, unit, seconds=60):
        with self._changed:
            assert self._changed.wait_for(lambda: (what, unit) in self.done, seconds), (what, unit, self.done)

    def _say(self, what, unit):
        with self._changed:
            self.done.append((what, unit))
            self._changed.notify_all()

    def _text(self, unit):
        found = [folder / unit for folder in self._units if (folder / unit).exists()]
        return found[0].read_text() if found else ""

    def _settings(self, unit):
        settings = {}
        for line in self._text(unit).splitlines():
            if "=" in line and line[0] not in "#[":
                key, value = line.split("=", 1)
                settings.setdefault(key, []).append(value)
        return settings

    def _start(self, unit):
        settings = self._settings(unit)
        variables = dict(each.split("=", 1) for line in settings.get("Environment", []) for each in shlex.split(line))
        # A socket unit's own service gets its socket, and so does a service that lists it.
        passed = {
            name: each
            for socket_unit, (name, each) in self._sockets.items()
            if unit == "s3cors.service" or socket_unit in settings.get("Sockets", [])
        }
        folder = self._folder / f"{unit}-{len(self.done)}"
        folder.mkdir()
        command = shlex.split(settings["ExecStart"][-1])
        started = Supervised(folder, command=command, variables=variables | self._variables, sockets=passed)
        self.running[unit] = started
        try:
            started.until("READY", seconds=40)
        except Failed:
            started.stop()
            self._say("failed", unit)
            return False
        self._say("started", unit)
        return True

    def _stop(self, unit):
        if not self.is_active(unit):
            return
        self._say("stopping", unit)
        stopped = self.running.pop(unit)
        stopped.signal(signal.SIGTERM)
        try:
            stopped.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._say("killed", unit)
        stopped.stop()
        self._say("stopped", unit)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.close()
        for unit in list(self.running):
            self._stop(unit)
