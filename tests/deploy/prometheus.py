"""Prometheus, and a receiver for its alerts."""

import datetime
import http.server
import json
import pathlib
import queue
import threading
import time
import urllib.parse
import urllib.request

import yaml

from places import tool
from programs import Failed, Program

# Never through a proxy that the machine may use for its own clients.
OPEN = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class Alertmanager:
    """Receives alerts like Prometheus' Alertmanager; reports each once when it fires and once when it ends."""

    def __init__(self):
        said = self._said = queue.Queue()

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                for alert in json.loads(self.rfile.read(int(self.headers["content-length"]))):
                    said.put(alert)
                self.send_response(200)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def next(self, name, ended, seconds=60):
        """The next alert of that name that fires or has ended; others are skipped."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                alert = self._said.get(timeout=max(0, deadline - time.monotonic()))
            except queue.Empty:
                raise Failed(f"{name} did not {'end' if ended else 'fire'} in {seconds} s") from None
            end = datetime.datetime.fromisoformat(alert["endsAt"].replace("Z", "+00:00"))
            has_ended = end <= datetime.datetime.now(datetime.timezone.utc)
            if alert["labels"]["alertname"] == name and has_ended == ended:
                return alert

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


class Prometheus(Program):
    """Scrapes one target ten times a second, with these rules."""

    def __init__(self, folder: pathlib.Path, target, rules, alertmanager):
        config = {
            "global": {"scrape_interval": "100ms", "evaluation_interval": "100ms"},
            "rule_files": [str(path) for path in rules],
            "scrape_configs": [{"job_name": "s3cors", "static_configs": [{"targets": [target]}]}],
            "alerting": {"alertmanagers": [{"static_configs": [{"targets": [alertmanager.address]}]}]},
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = [
            tool("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
        ]
        super().__init__("prometheus", command)
        try:
            self._port = int(self.wait_for(r'msg="Listening on" address=127\.0\.0\.1:(\d+)')[1])
            self.wait_for("Server is ready")
        except BaseException:
            self.stop()
            raise

    def ask(self, path, **parameters):
        """The data of an API response."""
        url = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with OPEN(url, timeout=30) as response:
            return json.load(response)["data"]

    def query(self, expression):
        """An expression's current samples, as labels and value; values that are not numbers are skipped."""
        found = self.ask("query", query=expression)["result"]
        return [(each["metric"], float(each["value"][1])) for each in found if each["value"][1] != "NaN"]
