"""The paths of the files under test, and how to run the tools that check them."""

import os
import pathlib
import shutil
import subprocess
import sys
import tomllib

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
VERSION = tomllib.loads((ROOT / "Cargo.toml").read_text())["package"]["version"]
# What the release workflow publishes; everything that is copied names it.
REPOSITORY = "ghcr.io/s3cors/s3cors"
IMAGE = f"{REPOSITORY}:{VERSION}"


def binary():
    """The tested s3cors: `S3CORS_BIN`, otherwise the release build, otherwise the debug build."""
    candidates = [ROOT / "target/release/s3cors", ROOT / "target/debug/s3cors"]
    if chosen := os.environ.get("S3CORS_BIN"):
        candidates = [pathlib.Path(chosen).resolve()]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise AssertionError(f"no binary to test; looked for {', '.join(map(str, candidates))}")


def tool(name):
    """A program's path: unchanged, next to the running Python, or in the shell's path."""
    if isinstance(name, pathlib.Path):
        return str(name)
    beside = pathlib.Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    assert found, f"{name} is not installed"
    return found


def run(name, *arguments, **options):
    """Runs a tool to its end; both of its outputs are combined."""
    return subprocess.run(
        [tool(name), *map(str, arguments)],
        stdin=options.pop("stdin", subprocess.DEVNULL),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
        **options,
    )


def passes(name, *arguments, **options):
    """Runs a tool that must find no problems; returns its output."""
    done = run(name, *arguments, **options)
    assert done.returncode == 0, f"{name} exited with {done.returncode}:\n{done.stdout}"
    return done.stdout
