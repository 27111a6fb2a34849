"""TLS from the outside: scanned by sslyze, resumed by OpenSSL, with certificates swapped under load."""

import re
import socket
import ssl
import threading
import time

import pytest
import sslyze
from cryptography import x509
from sslyze import ScanCommand

import certificates
import proxy
import upstreams
from programs import Program

LIVE_SECONDS = 1.0
SWAPS = 20
CONNECTIONS = 64


@pytest.fixture
def edge(folder):
    """A proxy with TLS and its own certificate."""
    (folder / "cors.xml").write_text(proxy.policy(proxy.rule(["https://app.example"], ["GET"])))
    certificates.write(folder)
    listener = {"tls": [{"certificate": "site.pem", "key": "site.pem"}]}
    with upstreams.Small() as upstream:
        route = proxy.route("photos", ["*"], upstream.url, cors="cors.xml")
        with proxy.S3cors(folder, route, listener=listener) as running:
            yield running


def scan(port):
    """Everything that sslyze checks."""
    place = sslyze.ServerNetworkLocation(hostname=certificates.HOST, ip_address="127.0.0.1", port=port)
    commands = set(ScanCommand) - {ScanCommand.HTTP_HEADERS}
    scanner = sslyze.Scanner()
    scanner.queue_scans([sslyze.ServerScanRequest(place, scan_commands=commands)])
    (scanned,) = scanner.get_results()
    assert scanned.scan_result, scanned.connectivity_error_trace
    return scanned


def test_a_scan_finds_nothing_weak(edge):
    scanned = scan(edge.port)

    def found(command):
        attempt = getattr(scanned.scan_result, command.value)
        assert attempt.error_trace is None, "".join(attempt.error_trace.format())
        return attempt.result

    def suites(command):
        return sorted(each.cipher_suite.name for each in found(command).accepted_cipher_suites)

    for old in ["SSL_2_0", "SSL_3_0", "TLS_1_0", "TLS_1_1"]:
        assert suites(ScanCommand[f"{old}_CIPHER_SUITES"]) == [], old
    # Each has an ephemeral key and authenticated encryption.
    assert suites(ScanCommand.TLS_1_2_CIPHER_SUITES) == [
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
    ]
    assert suites(ScanCommand.TLS_1_3_CIPHER_SUITES) == [
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ]
    assert not found(ScanCommand.TLS_COMPRESSION).supports_compression
    assert not found(ScanCommand.HEARTBLEED).is_vulnerable_to_heartbleed
    assert not found(ScanCommand.OPENSSL_CCS_INJECTION).is_vulnerable_to_ccs_injection
    assert "NOT_VULNERABLE" in found(ScanCommand.ROBOT).robot_result.name
    assert not found(ScanCommand.TLS_1_3_EARLY_DATA).supports_early_data
    renegotiation = found(ScanCommand.SESSION_RENEGOTIATION)
    assert renegotiation.supports_secure_renegotiation
    assert not renegotiation.is_vulnerable_to_client_renegotiation_dos
    assert found(ScanCommand.TLS_EXTENDED_MASTER_SECRET).supports_ems_extension
    resumption = found(ScanCommand.SESSION_RESUMPTION)
    # Resumption also works with tickets, but not for clients as old as this scanner: see the next
    # test.
    assert resumption.session_id_resumption_result.name == "FULLY_SUPPORTED"


def context(**settings):
    made = ssl.create_default_context()
    made.check_hostname = False
    made.verify_mode = ssl.CERT_NONE
    for name, value in settings.items():
        setattr(made, name, value)
    return made


def ask(port, made, session=None):
    """One request on a new connection; returns its session, and the protocol version if it was resumed."""
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    secure = made.wrap_socket(plain, server_hostname=certificates.HOST, session=session)
    secure.sendall(b"GET /k HTTP/1.1\r\nHost: photos.example\r\nConnection: close\r\n\r\n")
    answer = b""
    while block := secure.recv(4096):
        answer += block
    session, resumed = secure.session, secure.session_reused and secure.version()
    secure.close()
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b"ok"), answer
    return session, resumed


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda each: each.name)
def test_sessions_are_resumed(edge, version):
    made = context(minimum_version=version, maximum_version=version)
    session, resumed = ask(edge.port, made)
    assert session.has_ticket and not resumed
    _, resumed = ask(edge.port, made, session)
    assert resumed == version.name.replace("_", ".")


def test_certificates_swapped_under_load_fail_nothing_and_are_served_within_a_second(edge, folder, figure):
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", "-d600s", f"https://127.0.0.1:{edge.port}/k"]
    made = context()
    ended = threading.Event()
    handshakes = []

    def connect_again_and_again():
        while not ended.is_set():
            ask(edge.port, made)
            handshakes.append(True)

    def served():
        plain = socket.create_connection(("127.0.0.1", edge.port), timeout=30)
        with made.wrap_socket(plain, server_hostname=certificates.HOST) as secure:
            return x509.load_der_x509_certificate(secure.getpeercert(binary_form=True)).serial_number

    took = []
    with Program("wrk", command) as load:
        while edge.metric("s3cors_connections") < CONNECTIONS:
            assert load.process.poll() is None, load.output
        other = threading.Thread(target=connect_again_and_again)
        other.start()
        try:
            for _ in range(SWAPS):
                serial = certificates.write(folder)
                start = time.monotonic()
                # Compared by the time of the handshake, because the proxy chooses the certificate
                # later than that.
                while (asked := time.monotonic()) and served() != serial:
                    assert asked - start < LIVE_SECONDS, edge.output
                took.append(asked - start)
        finally:
            ended.set()
            other.join()
        load.signal(2)
        assert load.wait() == 0, load.output
    answers = int(re.search(r"(\d+) requests in", load.output)[1])
    figure(
        f"{len(took)} swaps, live after {max(took):.3f} s at most; {answers} answers, {len(handshakes)} handshakes"
    )
    assert answers > SWAPS and len(handshakes) > SWAPS
    assert "Socket errors" not in load.output and "Non-2xx" not in load.output, load.output
    assert edge.metric("s3cors_config_reloads_total", result="rejected") == 0
