"""A failed start reports exactly why, and leaves nothing running."""

import socket

import pytest

import proxy
import upstreams

POLICY = proxy.policy(proxy.rule(["https://app.example"], ["GET", "PUT"], max_age=60))


@pytest.fixture
def upstream():
    with upstreams.Small() as running:
        yield running


def write(folder, upstream, **addresses):
    (folder / "cors.xml").write_text(POLICY)
    route = proxy.route("photos", ["*"], upstream.url, cors="cors.xml")
    (folder / "s3cors.toml").write_text(proxy.config(route, **addresses))


@pytest.mark.parametrize("listener", ["listen", "admin"])
def test_a_port_in_use_is_reported_and_ends_the_start_with_1(folder, upstream, listener):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        write(folder, upstream, **{listener: address})
        with proxy.S3cors(folder, ready=False) as refused:
            assert refused.wait() == 1, refused.output
            assert address in refused.output
            assert "in use" in refused.output


def test_a_port_that_another_s3cors_serves_is_in_use_too(folder, upstream):
    write(folder, upstream)
    with proxy.S3cors(folder) as running:
        second = folder / "second"
        second.mkdir()
        write(second, upstream, listen=f"127.0.0.1:{running.port}")
        with proxy.S3cors(second, ready=False) as refused:
            assert refused.wait() == 1, refused.output
            assert f"127.0.0.1:{running.port}" in refused.output


def test_every_problem_of_a_config_is_reported_at_once(folder, upstream):
    (folder / "photos.xml").write_text(POLICY.replace("PUT", "put"))
    routes = [
        proxy.route("photos", ["p.example"], upstream.url, cors="photos.xml", semantic="safe"),
        proxy.route("videos", ["v.example"], "ftp://127.0.0.1", cors="missing.xml"),
    ]
    with proxy.S3cors(folder, *routes, ready=False) as refused:
        assert refused.wait() == 2, refused.output
        for expected in ["semantic", "semantics", "photos.xml:1:", "missing.xml", "ftp", "Unsupported method is put"]:
            assert expected in refused.output, refused.output
    assert "listening" not in refused.output


def test_a_missing_config_ends_the_start_with_2(folder):
    with proxy.S3cors(folder, arguments=["--config", "nothing.toml"], ready=False) as refused:
        assert refused.wait() == 2
        assert "nothing.toml" in refused.output


def test_the_sidecar_needs_no_file_but_the_policy(folder, upstream):
    (folder / "cors.xml").write_text(POLICY)
    flags = ["--upstream", upstream.url, "--cors", "cors.xml", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]
    with proxy.S3cors(folder, arguments=flags) as running:
        asked = {"Origin": "https://app.example", "Access-Control-Request-Method": "PUT"}
        status, fields, _ = running.request("OPTIONS", "/k", asked)
        assert (status, fields["Access-Control-Max-Age"]) == (200, "60")
        assert running.admin("/readyz")[0] == 200


def test_a_stop_finishes_requests_in_progress_and_ends_with_0(folder):
    (folder / "cors.xml").write_text(POLICY)
    with upstreams.Bulk() as upstream:
        route = proxy.route("photos", ["*"], upstream.url, cors="cors.xml")
        with proxy.S3cors(folder, route) as running:
            size = 64 * 1024 * 1024
            connection = running.connect()
            connection.request("GET", f"/{size}")
            response = connection.getresponse()
            received = len(response.read(1024))
            running.signal(15)
            while block := response.read(1024 * 1024):
                received += len(block)
            assert received == size
            assert running.wait() == 0, running.output
            connection.close()
