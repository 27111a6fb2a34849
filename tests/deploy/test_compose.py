"""Compose files: images, ports, mounts, probes and configs agree with the program and with each other."""

import copy
import random
import re

import pytest
import yaml

import compose
from places import DEPLOY, IMAGE, REPOSITORY, ROOT, VERSION, binary, passes
from programs import Program
from proxy import environment

CONTAINER = DEPLOY / "container"
MINIO, SEAWEEDFS, API = CONTAINER / "compose.yaml", CONTAINER / "seaweedfs.yaml", DEPLOY / "cors-api/compose.yaml"
FILES = sorted(path for path in DEPLOY.rglob("*.yaml") if "services:" in path.read_text().splitlines())


def test_every_compose_file_is_tested():
    assert FILES == sorted([MINIO, SEAWEEDFS, API])


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(DEPLOY)))
def test_a_compose_file_agrees_with_the_program(path):
    assert compose.problems(compose.read(path), path.parent) == []


def s3cors(change):
    """A change of the service with this name."""
    return lambda services: services["s3cors"].update(change)


def variable(name, value):
    return lambda services: services["s3cors"]["environment"].update({name: value})


# A file, a mistake in it, and a part of the expected message.
MISTAKES = {
    "a wrong port is published": (MINIO, s3cors({"ports": ["8080:8081"]}), "port 8080 is not published"),
    "a port too many": (MINIO, s3cors({"ports": ["8080:8080", "8443:8443"]}), "published port 8443"),
    "the admin port for everybody": (MINIO, s3cors({"ports": ["8080:8080", "9901:9901"]}), "to everybody"),
    "another version": (MINIO, s3cors({"image": f"{REPOSITORY}:9.9.9"}), "9.9.9"),
    "another repository": (API, s3cors({"image": f"s3cors:{VERSION}"}), "is not ghcr.io"),
    "a moving tag": (MINIO, lambda services: services["minio"].update(image="quay.io/minio/minio:latest"), "no version"),
    "no tag": (API, lambda services: services["minio"].update(image="quay.io/minio/minio"), "no version"),
    "a config that is not mounted": (MINIO, s3cors({"volumes": ["./config:/config:ro"]}), "config is not mounted"),
    "a folder that is not there": (MINIO, s3cors({"volumes": ["./configs:/etc/s3cors:ro"]}), "nothing to mount"),
    "a missing policy": (SEAWEEDFS, variable("S3CORS_CORS", "/etc/s3cors/cors/other.xml"), "no policy"),
    "loopback": (SEAWEEDFS, variable("S3CORS_LISTEN", "127.0.0.1:8080"), "cannot be reached"),
    "the upstream's wrong port": (SEAWEEDFS, variable("S3CORS_UPSTREAM", "http://seaweedfs:8334"), "listens on 8333"),
    "the upstream is this container": (SEAWEEDFS, variable("S3CORS_UPSTREAM", "http://127.0.0.1:8333"), "not a service"),
    "the storage moved": (MINIO, lambda services: services["minio"].update(command=["server", "/data", "--address=:9002"]), "9002"),
    "a variable that does not exist": (SEAWEEDFS, variable("S3CORS_LISTENER", "x"), "unknown variable"),
    "an admin listener on loopback": (SEAWEEDFS, variable("S3CORS_ADMIN", "127.0.0.1:9901"), "is published, and listens"),
    "the wrong health check": (MINIO, s3cors({"healthcheck": {"test": ["CMD", "curl", "localhost"]}}), "health check"),
    "writable": (MINIO, s3cors({"read_only": False}), "more than it needs"),
    "killed early": (MINIO, s3cors({"stop_grace_period": "20s"}), "before its drain"),
    "a name that admin refuses": (MINIO, s3cors({"environment": {"S3CORS_ADMIN": "0.0.0.0:9902"}}), "Prometheus asks s3cors:9901"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_planted_mistake_is_found(name):
    path, plant, said = MISTAKES[name]
    planted = copy.deepcopy(compose.read(path))
    plant(planted["services"])
    found = compose.problems(planted, path.parent)
    assert any(said in each for each in found), found


def test_a_wrong_port_in_the_config_is_found(folder):
    text = (CONTAINER / "config/s3cors.toml").read_text()
    for wrong, said in [
        (text.replace(":8080", ":8081"), "port 8081 is not published"),
        (text.replace(":9901", ":9902"), "`s3cors health` asks port 9901"),
        (text.replace(":9000", ":9001"), "minio listens on 9000"),
        (text.replace('["s3cors"]', '["proxy"]'), "does not list s3cors"),
        (text.replace("upstream =", "upstreams ="), "check: "),
    ]:
        config = folder / "config"
        (config / "buckets").mkdir(parents=True, exist_ok=True)
        (config / "s3cors.toml").write_text(wrong)
        planted = compose.read(MINIO)
        planted["services"]["s3cors"]["volumes"] = [f"./{config.name}:/etc/s3cors:ro"]
        planted["services"]["prometheus"]["volumes"] = ["./prometheus.yml:/etc/prometheus/prometheus.yml:ro"]
        (folder / "prometheus.yml").write_text((CONTAINER / "prometheus.yml").read_text())
        found = compose.problems(planted, folder)
        assert any(said in each for each in found), (said, found)


def docker_runs():
    text = (CONTAINER / "README.md").read_text().replace("\\\n", " ")
    return re.findall(r"^docker run .*", text, re.MULTILINE)


def test_the_containers_of_the_readme_agree_with_the_program():
    demo, *others = docker_runs()
    assert len(others) == 2
    for line in others:
        assert compose.of_container(compose.docker_run(line), ROOT) == [], line
        (upstream,) = compose.settings(compose.docker_run(line), ROOT)["upstreams"]
        # The machine that runs the container, not the container itself.
        assert f"--add-host {compose.host_and_port(upstream)[0]}:host-gateway" in line
    assert compose.docker_run(demo)["image"] == IMAGE
    assert all(address == "127.0.0.1" and int(outside) == port for address, outside, port in compose.ports(compose.docker_run(demo)))


@pytest.mark.parametrize("right, wrong, said", [
    ("-p 8080:8080", "-p 8080:80", "port 8080 is not published"),
    ("-p 127.0.0.1:9901:9901", "-p 9901:9901", "to everybody"),
    (f"{IMAGE}", "s3cors", "is not ghcr.io"),
    # What the README had: listeners and upstream of the container's own loopback.
    ("/deploy/container/config:", "/config:", "cannot be reached"),
], ids=["port", "admin", "image", "config"])
def test_a_wrong_docker_run_is_found(right, wrong, said):
    line = docker_runs()[1]
    assert right in line
    found = compose.of_container(compose.docker_run(line.replace(right, wrong)), ROOT)
    assert any(said in each for each in found), found


def test_the_demo_of_the_readme_answers_at_every_published_port():
    """Uses a random loopback address, because the ports are fixed."""
    service = compose.docker_run(docker_runs()[0])
    address = f"127.{random.randrange(1, 255)}.{random.randrange(256)}.{random.randrange(1, 255)}"
    command = [address if word == "0.0.0.0" else word for word in service["command"]]
    assert address in command
    with Program("s3cors demo", [binary(), *command], env=environment()) as demo:
        demo.wait_for("DELETE")
        for _, _, port in compose.ports(service):
            passes("curl", "--silent", "--show-error", "--noproxy", "*", "--output", "/dev/null", f"http://{address}:{port}/")
        text = (CONTAINER / "README.md").read_text()
        page = next(line for line in demo.lines if " INFO " not in line)
        assert f"<{page.replace(address, '127.0.0.1')}>" in text
        assert demo.stop() == 0, demo.output


def test_prometheus_accepts_its_config(folder):
    (folder / "prometheus.yml").write_text((CONTAINER / "prometheus.yml").read_text())
    (folder / "rules.yaml").write_text((DEPLOY / "prometheus/rules.yaml").read_text())
    passes("promtool", "check", "config", folder / "prometheus.yml")


def test_the_example_buckets_are_those_of_the_guide():
    for path in (CONTAINER / "config/buckets").iterdir():
        assert path.read_text() == (DEPLOY / "minio/buckets" / path.name).read_text()


def places_that_name_the_image():
    """Files that users may copy."""
    for path in [ROOT / "README.md", *DEPLOY.rglob("*")]:
        if path.is_file() and path.suffix in ("", ".md", ".yaml", ".yml", ".toml", ".txt", ".tpl"):
            yield path


def test_everything_to_copy_uses_the_published_image():
    named = 0
    for path in places_that_name_the_image():
        text = path.read_text()
        for repository, tag in re.findall(r"(?<![\w./-])((?:[\w.-]+/)*s3cors):([\w.-]*\w)(?=[\s\"'`]|$)", text):
            if tag[0].isdigit() and not re.fullmatch(r"\d+", tag):
                named += 1
                assert (repository, tag) == (REPOSITORY, VERSION), f"{path}: {repository}:{tag}"
        for command in re.findall(r"docker (?:buildx )?build .*? -t (\S+)", text.replace("\\\n", "")):
            assert command == IMAGE, f"{path}: {command}"
    assert named >= 8


def test_every_use_of_the_image_says_how_to_build_it():
    build = f"docker build -f deploy/container/Dockerfile -t {IMAGE} ."
    readme = (CONTAINER / "README.md").read_text()
    assert build in readme.split("**Try it.**")[0], "first of all"
    for path in FILES:
        assert yaml.safe_load(path.read_text())["services"]["s3cors"]["build"], path
    for page in ["kubernetes/README.md", "helm/s3cors/README.md"]:
        text = (DEPLOY / page).read_text()
        assert build in text or "container/README.md" in text, page
