"""Shared by the tests of deploy/: paths, and a folder for each test."""

import pathlib
import sys
import tempfile

import pytest

import dockerfile

# `programs` and `proxy` start the binary and wait for its output.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "clients"))


@pytest.fixture
def folder():
    """A folder for this test, removed when it ends, whether it passed or not."""
    with tempfile.TemporaryDirectory(prefix="s3cors-") as path:
        yield pathlib.Path(path)


@pytest.fixture(scope="session")
def image():
    """The folder that the image's last stage copies: the static binary and the certificates."""
    return dockerfile.build_image()
