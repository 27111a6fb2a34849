"""An upstream answers 403 before it has read an upload, and clients see that response.

A client that is still sending when its connection or stream is reset may report the reset and never
show the response. Each client here uploads 50 MiB over TLS, without `Expect: 100-continue`, and
reads the status and S3's error document.
"""

import contextlib
import io
import pathlib
import shutil
import subprocess
import threading

import pycurl
import pytest

import certificates
import proxy
import upstreams
from frames import *

SIZE = 50 * upstreams.MIB
TIMES = 5
ERROR = '<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
JAVA = pathlib.Path(__file__).with_name("EarlyAnswer.java")
VERSIONS = pytest.mark.parametrize("version", ["1.1", "2"])


class Denies(upstreams.Upstream):
    """Answers each request with 403 at once, then discards the body or closes."""

    def __init__(self, reads_on, chunked):
        self.reads_on = reads_on
        self.chunked = chunked
        super().__init__()

    def answer(self, connection, method, target, fields):
        close = "" if self.reads_on else "Connection: close\r\n"
        framing = "Transfer-Encoding: chunked" if self.chunked else f"Content-Length: {len(ERROR)}"
        head = f"HTTP/1.1 403 Forbidden\r\nContent-Type: application/xml\r\n{framing}\r\n{close}\r\n"
        # In two pieces. A curl 7.88 that gets only the head ends its stream short of the declared
        # length, and treats the reset for this malformed request as a failure (RFC 9113 8.1.1).
        connection.wfile.write(head.encode())
        if self.chunked:
            connection.wfile.write(f"{len(ERROR):x}\r\n{ERROR}\r\n".encode())
            connection.wfile.write(b"0\r\n\r\n")
        else:
            connection.wfile.write(ERROR.encode())
        left = int(fields.get("content-length", 0))
        while self.reads_on and left and (block := connection.rfile.read1(min(left, upstreams.MIB))):
            left -= len(block)
        if left:
            raise ConnectionError("the rest is not wanted")


@pytest.fixture(scope="module", params=["reads on", "closes", "reads on, in chunks"])
def edge(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("early")
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["https://app.example"], ["PUT"])))
    (folder / "body").write_bytes(bytes(SIZE))
    certificates.write(folder)
    listener = {"tls": [{"certificate": "site.pem", "key": "site.pem"}]}
    with Denies(request.param.startswith("reads on"), "chunks" in request.param) as upstream:
        route = proxy.route("photos", ["*"], upstream.url, cors="cors.xml")
        with proxy.S3cors(folder, route, listener=listener) as running:
            running.body = folder / "body"
            running.url_tls = f"https://127.0.0.1:{running.port}/bucket/key"
            yield running


def run(*command):
    return subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, errors="replace", timeout=60
    )


@VERSIONS
def test_curl_of_debian_sees_it(edge, version):
    option = "--http2" if version == "2" else "--http1.1"
    for _ in range(TIMES):
        done = run(
            "curl", "-sSk", option, "-H", "Expect:", "-T", edge.body, "-w", "\n%{http_version} %{http_code}", edge.url_tls
        )
        assert (done.returncode, done.stdout) == (0, f"{ERROR}\n{version} 403"), done.stderr


@VERSIONS
def test_the_newest_curl_sees_it(edge, version):
    for _ in range(TIMES):
        curl, body = pycurl.Curl(), io.BytesIO()
        with contextlib.closing(curl), open(edge.body, "rb") as upload:
            curl.setopt(pycurl.URL, edge.url_tls)
            curl.setopt(pycurl.SSL_VERIFYPEER, 0)
            curl.setopt(pycurl.SSL_VERIFYHOST, 0)
            wanted = pycurl.CURL_HTTP_VERSION_2TLS if version == "2" else pycurl.CURL_HTTP_VERSION_1_1
            curl.setopt(pycurl.HTTP_VERSION, wanted)
            curl.setopt(pycurl.HTTPHEADER, ["Expect:"])
            curl.setopt(pycurl.UPLOAD, 1)
            curl.setopt(pycurl.INFILESIZE, SIZE)
            curl.setopt(pycurl.READDATA, upload)
            curl.setopt(pycurl.WRITEDATA, body)
            curl.setopt(pycurl.TIMEOUT, 60)
            curl.perform()
            assert (curl.getinfo(pycurl.RESPONSE_CODE), body.getvalue().decode()) == (403, ERROR)


@VERSIONS
def test_h2load_sees_it(edge, version):
    protocol = ["--h1"] if version == "1.1" else []
    done = run(
        "h2load", *protocol, "-n", TIMES, "-c", 1, "-m", 1, "-d", edge.body, "-H", ":method: PUT", edge.url_tls
    )
    # Over HTTP/1.1, it counts a request as failed if the connection ends before everything was
    # sent.
    if version == "2":
        assert f"requests: {TIMES} total, {TIMES} started, {TIMES} done" in done.stdout, done.stdout
    assert f"0 2xx, 0 3xx, {TIMES} 4xx, 0 5xx" in done.stdout, done.stdout


@pytest.mark.skipif(not shutil.which("javac"), reason="no JDK is installed")
@VERSIONS
def test_java_sees_it(edge, version):
    name = "HTTP_2" if version == "2" else "HTTP_1_1"
    for _ in range(2):
        done = run("java", JAVA, edge.url_tls, name, SIZE)
        assert done.stdout == f"{name} 403 {ERROR}\n", done.stderr


def test_over_http2_the_answer_comes_before_any_reset(edge):
    """The client keeps sending for a moment, during which its stream is not reset."""
    with Connection(edge.port, tls=True) as client:
        client.send(headers(1, request("PUT", "/bucket/key"), end=False), data(1, b"x"))
        answer = client.until(HEADERS, 1)
        assert dict(answer.fields)[":status"] == "403"
        last = client.until(DATA, 1, END_STREAM)
        assert last
        client.send(data(1, bytes(FRAME_SIZE)), data(1, b"x", end=True), ping())
        client.until(PING, 0, ACK)
        assert not [frame for frame in client.seen if frame.kind == RST_STREAM]
        assert client.get(3) == "403"


def test_over_http2_a_client_that_keeps_sending_is_reset_without_an_error(edge):
    with Connection(edge.port, tls=True) as client:
        client.send(headers(1, request("PUT", "/bucket/key"), end=False), data(1, b"x"))
        client.until(DATA, 1, END_STREAM)
        assert client.until(RST_STREAM, 1).error == "NO_ERROR"
        assert client.get(3) == "403"


class Withholds(upstreams.Upstream):
    """Answers with a head whose body waits for `let_go`, or never comes."""

    def __init__(self, framing, body=b""):
        self.framing = framing
        self.body = body
        self.has_sent = threading.Event()
        self.let_go = threading.Event()
        super().__init__()

    def answer(self, connection, method, target, fields):
        connection.wfile.write(f"HTTP/1.1 403 Forbidden\r\n{self.framing}\r\n\r\n".encode())
        self.has_sent.set()
        self.let_go.wait(30)
        connection.wfile.write(self.body)
        raise ConnectionError("nothing more comes")


@pytest.mark.parametrize("framing", ["Content-Length: 10", "Content-Length: 100000", "Transfer-Encoding: chunked"])
def test_over_http2_the_head_does_not_wait_for_a_body_that_does_not_come(tmp_path, framing):
    with Withholds(framing) as upstream:
        with proxy.S3cors(tmp_path, proxy.route("photos", ["*"], upstream.url)) as running:
            with Connection(running.port) as client:
                client.send(headers(1, request("PUT", "/bucket/key"), end=False), data(1, b"x"))
                assert dict(client.until(HEADERS, 1).fields)[":status"] == "403"
                upstream.let_go.set()
                assert client.until(RST_STREAM, 1).error == "INTERNAL_ERROR"


def test_over_http2_the_head_waits_for_a_short_body(tmp_path):
    """This keeps clients from ending their streams between the two. On a busy machine, the wait may be too short."""
    body = b"0123456789"
    with Withholds(f"Content-Length: {len(body)}", body) as upstream:
        with proxy.S3cors(tmp_path, proxy.route("photos", ["*"], upstream.url)) as running:
            for _ in range(10):
                upstream.has_sent.clear()
                upstream.let_go.clear()
                with Connection(running.port) as client:
                    client.send(headers(1, request("PUT", "/bucket/key"), end=False), data(1, b"x"))
                    assert upstream.has_sent.wait(30)
                    for _ in range(20):
                        client.send(ping())
                        client.until(PING, 0, ACK)
                    has_waited = not any(frame.kind == HEADERS for frame in client.seen)
                    upstream.let_go.set()
                    assert client.until(DATA, 1).payload == body
                if has_waited:
                    return
    pytest.fail("the head never waited")
