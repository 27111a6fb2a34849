"""Shared fixtures: one S3 server for all tests, and a folder for each proxy."""

import os
import pathlib
import resource
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import seaweedfs  # noqa: E402 (found by the path just set)

# The machine's settings for its own clients: profiles, certificates, a proxy to the network.
for variable in list(os.environ):
    if variable.startswith("AWS_") or variable.lower().endswith("_proxy"):
        del os.environ[variable]


@pytest.fixture
def folder():
    """A folder for this test, removed when it ends, whether it passed or not."""
    with tempfile.TemporaryDirectory(prefix="s3cors-") as path:
        yield pathlib.Path(path)


@pytest.fixture
def descriptors():
    """Allows this process and its children to open this many files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def allow(wanted):
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip(f"the system allows {hard} open files, but {wanted} are needed")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))

    yield allow
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


FIGURES = []


@pytest.fixture
def figure(request):
    """Records a figure that a test measured, to be shown at the end."""
    return lambda text: FIGURES.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("figures")
        for text in FIGURES:
            terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def seaweed_port():
    """The S3 port of a SeaweedFS that runs as long as the tests."""
    with tempfile.TemporaryDirectory(prefix="s3cors-seaweedfs-") as path:
        with seaweedfs.start(pathlib.Path(path)) as server:
            yield server.port
