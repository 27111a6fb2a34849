"""What the tests share: one S3 server for all of them, and a folder for each proxy."""

import os
import pathlib
import resource
import sys
import tempfile

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

import seaweedfs  # noqa: E402 (found by the path just set)

# What the machine has set for its own clients: profiles, certificates, a way out to the network.
for variable in list(os.environ):
    if variable.startswith("AWS_") or variable.lower().endswith("_proxy"):
        del os.environ[variable]


@pytest.fixture
def folder():
    """A folder of this test's own, gone when it ends, whether it passed or not."""
    with tempfile.TemporaryDirectory(prefix="s3cors-") as path:
        yield pathlib.Path(path)


@pytest.fixture
def descriptors():
    """Lets this process, and those that it starts, have so many files open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    def allow(wanted):
        if hard != resource.RLIM_INFINITY and hard < wanted:
            pytest.skip(f"{wanted} open files are more than the system allows ({hard})")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))

    yield allow
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


FIGURES = []


@pytest.fixture
def figure(request):
    """Keeps a figure that a test measured, to be shown at the end."""
    return lambda text: FIGURES.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(terminalreporter):
    if FIGURES:
        terminalreporter.section("figures")
        for text in FIGURES:
            terminalreporter.write_line(text)


@pytest.fixture(scope="session")
def seaweed_port():
    """The S3 port of a SeaweedFS that lives as long as the tests."""
    with tempfile.TemporaryDirectory(prefix="s3cors-seaweedfs-") as path:
        with seaweedfs.start(pathlib.Path(path)) as server:
            yield server.port
