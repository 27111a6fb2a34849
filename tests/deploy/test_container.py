"""The container image: builds its stages without a container engine, and runs its program in an empty root."""

import os
import re
import shlex
import shutil
import subprocess

import pytest

from dockerfile import CONTAINER, DOCKERFILE, stages
from places import passes, run
from programs import Program
from proxy import environment, policy, rule

MEBIBYTE = 1024 * 1024


def empty_root(image, folder):
    """The image in a separate folder, with a policy next to it, and a function to run a program there."""
    root = folder / "root"
    shutil.copytree(image, root)
    (root / "etc/s3cors").mkdir(parents=True)
    (root / "etc/s3cors/cors.xml").write_text(policy(rule(["https://a.example"])))
    # A container has these as well; only the process metrics read them.
    command = ["chroot", "--userspec=65532:65532", str(root)]
    if os.geteuid() == 0:
        return command
    command = ["unshare", "--user", "--map-root-user", "chroot", str(root)]
    if subprocess.run(["unshare", "--user", "--map-root-user", "true"], check=False).returncode:
        pytest.skip("not root, and the kernel does not allow user namespaces for other users")
    return command


def test_hadolint_finds_no_problems():
    assert passes("hadolint", DOCKERFILE) == ""


def test_hadolint_would_find_a_problem(folder):
    (folder / "Dockerfile").write_text("FROM debian\nRUN cd /tmp && apt-get install curl\n")
    assert run("hadolint", folder / "Dockerfile").returncode == 1


def test_the_last_stage_is_empty_and_not_roots():
    _, last = stages()
    assert last[0] == ("FROM", "scratch")
    assert ("USER", "65532:65532") in last


def test_the_image_has_labels_for_its_source():
    build, last = stages()
    (labels,) = [rest for word, rest in last if word == "LABEL"]
    (arguments,) = [rest for word, rest in last if word == "ARG"]
    named = dict(each.split("=", 1) for each in shlex.split(labels))
    for name in ("version", "revision", "source", "created"):
        # Set at build time, because a fixed value would soon be outdated.
        assert named[f"org.opencontainers.image.{name}"] == f"${name.upper()}"
        assert f'{name.upper()}=""' in arguments
    readme = (CONTAINER / "README.md").read_text()
    assert f"--build-context {build[0][1].split()[0]}=docker-image://" in readme, "the base can be pinned"


def test_the_build_keeps_its_caches():
    build, _ = stages()
    (command,) = [rest for word, rest in build if word == "RUN"]
    assert re.findall(r"--mount=type=cache,target=(\S+)", command) == ["/usr/local/cargo/registry", "/src/target"]


def test_the_build_context_has_everything_that_is_copied():
    ignored = (CONTAINER / "Dockerfile.dockerignore").read_text().split()
    build, _ = stages()
    copied = {name for word, rest in build if word == "COPY" for name in shlex.split(rest)[:-1]}
    assert copied == {line[1:] for line in ignored if line.startswith("!")}


def test_the_ports_are_those_of_the_readme():
    _, last = stages()
    (ports,) = [rest.split() for word, rest in last if word == "EXPOSE"]
    readme = (CONTAINER / "README.md").read_text()
    assert all(f'"0.0.0.0:{port}"' in readme for port in ports), ports


def test_it_is_one_small_program_without_libraries(image):
    files = [path for path in image.rglob("*") if path.is_file()]
    names = sorted(str(path.relative_to(image)) for path in files)
    assert names == ["etc/ssl/certs/ca-certificates.crt", "s3cors"]
    assert sum(path.stat().st_size for path in files) < 17 * MEBIBYTE
    headers = passes("readelf", "--program-headers", "--dynamic", image / "s3cors")
    assert "INTERP" not in headers and "(NEEDED)" not in headers


def test_it_serves_in_an_empty_root_and_takes_little_memory(image, folder):
    command = [
        *empty_root(image, folder),
        *("/s3cors", "run", "--upstream=http://127.0.0.1:9", "--cors=/etc/s3cors/cors.xml"),
        *("--listen=127.0.0.1:0", "--admin=127.0.0.1:0"),
    ]
    with Program("s3cors", command, env=environment()) as served:
        port = served.wait_for(r"listening address=127\.0\.0\.1:(\d+)")[1]
        preflight = passes(
            "curl", "--silent", "--show-error", "--include", "--noproxy", "*", "-X", "OPTIONS",
            "-H", "Origin: https://a.example", "-H", "Access-Control-Request-Method: GET",
            f"http://127.0.0.1:{port}/photos/1.jpg",
        )
        assert re.match(r"HTTP/1\.1 200 ", preflight), preflight
        assert "access-control-allow-origin: https://a.example" in preflight.lower()
        assert served.memory() < 12 * MEBIBYTE, served.memory() / MEBIBYTE
        assert served.stop() == 0, served.output


def test_the_demo_runs_there(image, folder):
    command = [*empty_root(image, folder), "/s3cors", "demo"]
    command += [f"--{each}=127.0.0.1:0" for each in ("page", "listen", "store", "admin")]
    with Program("s3cors demo", command, env=environment()) as demo:
        demo.wait_for("DELETE")
        first = next(line for line in demo.lines if " INFO " not in line)
        assert "Straight to the storage" in passes("curl", "--silent", "--show-error", "--noproxy", "*", first)
        assert demo.stop() == 0, demo.output


def test_its_version_is_told_there_too(image, folder):
    root = [*empty_root(image, folder), "/s3cors"]
    done = subprocess.run([*root, "--version"], capture_output=True, text=True, check=True)
    assert re.fullmatch(r"s3cors \d+\.\d+\.\d+\n", done.stdout)
