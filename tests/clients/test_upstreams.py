"""One of two upstreams is killed under load, and then restarted."""

import dataclasses
import http.client
import pathlib
import sys
import threading
import time

import proxy
from programs import Program, free_ports

PROGRAM = pathlib.Path(__file__).with_name("answering.py")
CLIENTS = 24
# The number of responses before the kill, without the killed upstream, and after its restart.
REQUESTS_A_PHASE = 1000
BACK_SECONDS = 2.0


def answering(port, name):
    program = Program(name, [sys.executable, PROGRAM, str(port), name])
    program.wait_for("listening")
    return program


@dataclasses.dataclass
class Request:
    """One exchange: its begin and end, its status, and the upstream that answered.

    `None`: there was no response.
    """

    method: str
    began: float
    ended: float
    status: int | None
    upstream: str | None


class Load:
    """Clients that send requests without a pause, half of them with bodies, each on its own connection."""

    def __init__(self, port):
        self.requests = []
        self._port = port
        self._changed = threading.Condition()
        self._stopped = False
        self._threads = [
            threading.Thread(target=self._ask, args=("GET" if number % 2 else "PUT",), daemon=True)
            for number in range(CLIENTS)
        ]
        for thread in self._threads:
            thread.start()

    def _ask(self, method):
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        while not self._stopped:
            began = time.monotonic()
            try:
                connection.request(method, "/object", body=b"body" if method == "PUT" else None)
                response = connection.getresponse()
                status, text = response.status, response.read().decode()
            except (OSError, http.client.HTTPException):
                connection.close()
                status, text = None, None
            upstream = text if status == 200 else None
            request = Request(method, began, time.monotonic(), status, upstream)
            with self._changed:
                self.requests.append(request)
                self._changed.notify_all()
        connection.close()

    def wait_until(self, done, seconds=60):
        with self._changed:
            assert self._changed.wait_for(lambda: done(self.requests), seconds)

    def wait_for_more(self, count):
        wanted = len(self.requests) + count
        self.wait_until(lambda requests: len(requests) >= wanted)

    def stop(self):
        self._stopped = True
        for thread in self._threads:
            thread.join(60)


def test_only_requests_in_flight_on_a_killed_upstream_fail_and_it_is_soon_back(folder, figure):
    ports = free_ports(2)
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["*"], ["GET", "PUT"])))
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    route = proxy.route("r", ["*"], urls[0], cors="cors.xml").replace(
        f'["{urls[0]}"]', f'["{urls[0]}", "{urls[1]}"]'
    )
    with answering(ports[0], "stays"), proxy.S3cors(folder, route) as running:
        victim = answering(ports[1], "victim")
        load = Load(running.port)
        load.wait_for_more(REQUESTS_A_PHASE)
        killed = time.monotonic()
        victim.process.kill()
        victim.wait()
        dead = time.monotonic()
        load.wait_for_more(REQUESTS_A_PHASE)
        assert running.metric("s3cors_upstream_healthy", upstream=urls[1]) == 0

        with answering(ports[1], "victim"):
            revived = time.monotonic()
            load.wait_until(lambda requests: _answered_since(requests, revived))
            load.wait_for_more(REQUESTS_A_PHASE)
            load.stop()
            assert running.metric("s3cors_upstream_healthy", upstream=urls[1]) == 1

        back = min(request.ended for request in _answered_since(load.requests, revived)) - revived
        failed = [request for request in load.requests if request.status != 200]
        in_flight = [each for each in load.requests if each.began < dead and each.ended > killed]
        retried = [each for each in in_flight if each.status == 200 and each.upstream == "stays"]
        figure(
            f"{len(load.requests)} requests, {len(failed)} failed of {len(in_flight)} in flight at"
            f" the kill ({len(retried)} of them answered by the other one);"
            f" back {back:.2f} s after the revival"
        )
        assert all(request in in_flight for request in failed), failed
        assert back < BACK_SECONDS
        # Every failure that a client saw was counted, and no other.
        assert running.metric("s3cors_upstream_errors_total") == len(failed)


def _answered_since(requests, moment):
    return [each for each in requests if each.upstream == "victim" and each.began > moment]
