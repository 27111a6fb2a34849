"""Reads the settings of s3cors in a Compose file, and finds where they contradict the program or other services."""

import pathlib
import re
import shlex
import shutil
import tempfile
import tomllib

import yaml

from places import IMAGE, ROOT, binary, run

# The address that `s3cors health` uses unless S3CORS_ADMIN is set, and the default drain.
ADMIN_PORT = 9901
DRAIN_SECONDS = 30


def read(path):
    """The file, with variables replaced by their defaults like in Compose."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", path.read_text())
    return yaml.safe_load(text)


def host_and_port(address):
    """The host and the port of HOST:PORT, with any scheme removed."""
    host, _, port = address.split("://")[-1].rstrip("/").rpartition(":")
    return host, int(port)


def docker_run(line):
    """Converts a `docker run` to a Compose service: image, command, ports, variables, mounts."""
    words = shlex.split(line)[2:]
    service = {"ports": [], "volumes": [], "environment": {}}
    while words[0].startswith("-"):
        option = words.pop(0)
        if option == "-p":
            service["ports"].append(words.pop(0))
        elif option == "-v":
            service["volumes"].append(words.pop(0).replace("$PWD/", "./"))
        elif option == "-e":
            name, value = words.pop(0).split("=", 1)
            service["environment"][name] = value
        elif option in ("--add-host", "--stop-timeout"):
            words.pop(0)
        else:
            assert option in ("--rm", "--read-only") or "=" in option, option
    service["image"] = words.pop(0)
    if words:
        service["command"] = words
    return service


def ports(service):
    """The host's address, the host's ports and the container's port of each published port."""
    for entry in service.get("ports", []):
        *address, outside, inside = entry.split(":")
        yield (address[0] if address else ""), outside, int(inside)


def mounts(service, folder):
    """The mounted folders and files: path in the container, path here."""
    for entry in service.get("volumes", []):
        source, target, *_ = entry.split(":")
        if source.startswith("."):
            yield pathlib.PurePath(target), (folder / source).resolve()


def inside(path, service, folder):
    """The file at a path in the container, if it is in a mount."""
    path = pathlib.PurePath(path)
    for target, source in mounts(service, folder):
        if path == target:
            return source
        if target in path.parents:
            return source / path.relative_to(target)
    return None


def serves_port(service):
    """The port on which another service listens, from its command."""
    found = re.findall(r"(?:--address=|-s3\.port=|--web\.listen-address=)\S*?:?(\d+)(?=\s|$)", " ".join(service.get("command", [])))
    if not found:
        return {"minio/minio": 9000}.get(service["image"].rpartition(":")[0].removeprefix("quay.io/"))
    return int(found[0])


def settings(service, folder):
    """The container's settings: config, its path here, listening addresses, admin address, hosts, upstreams."""
    variables = service.get("environment", {})
    command = service.get("command", ["run", "--config", "/etc/s3cors/s3cors.toml"])
    config, path = {}, None
    if "--config" in command:
        path = inside(command[command.index("--config") + 1], service, folder)
        config = tomllib.loads(path.read_text()) if path and path.is_file() else {}
    listen = [each["address"] for each in config.get("listen", [])]
    upstreams = [route.get("upstream", []) for route in config.get("route", [])]
    upstreams = [each for one in upstreams for each in ([one] if isinstance(one, str) else one)]
    return {
        "config": path,
        "asks_for_config": "--config" in command,
        "listen": [variables["S3CORS_LISTEN"]] if "S3CORS_LISTEN" in variables else listen,
        "admin": variables.get("S3CORS_ADMIN", config.get("admin", {}).get("address", f"127.0.0.1:{ADMIN_PORT}")),
        "hosts": variables.get("S3CORS_ADMIN_HOSTS", "").split(",") + config.get("admin", {}).get("hosts", []),
        "upstreams": [variables["S3CORS_UPSTREAM"]] if "S3CORS_UPSTREAM" in variables else upstreams,
    }


def checked(service, folder):
    """The problems that `s3cors check` finds in the container's config, with its mounts in place."""
    command = service.get("command", ["run", "--config", "/etc/s3cors/s3cors.toml"])
    with tempfile.TemporaryDirectory() as root:
        root = pathlib.Path(root)
        for target, source in mounts(service, folder):
            copy = root / str(target).lstrip("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copytree(source, copy) if source.is_dir() else shutil.copy2(source, copy)
        for entry in service.get("tmpfs", []):
            (root / entry.split(":")[0].lstrip("/")).mkdir(parents=True)
        config = root / command[command.index("--config") + 1].lstrip("/")
        config.write_text(re.sub(r'"(?=/(?:etc|var)/)', f'"{root}', config.read_text()))
        done = run(binary(), "check", "--config", config, "--deny-warnings")
        return done.stdout if done.returncode else ""


def of_container(service, folder):
    """The faults of an s3cors container: image, variables, mounts, config and ports."""
    found = []
    has = settings(service, folder)
    variables = service.get("environment", {})
    if service.get("image") != IMAGE:
        found.append(f"image {service.get('image')} is not {IMAGE}")
    found += [f"nothing to mount at {target}" for target, source in mounts(service, folder) if not source.exists()]

    flags = "".join(file.read_text() for file in (ROOT / "src/cli").glob("*.rs"))
    found += [f"unknown variable {name}" for name in variables if f'"{name}"' not in flags]
    if has["asks_for_config"] and not (has["config"] and has["config"].is_file()):
        found.append("its config is not mounted")
    elif has["config"] and (said := checked(service, folder)):
        found.append(f"check: {said}")
    if policy := variables.get("S3CORS_CORS"):
        file = inside(policy, service, folder)
        if file is None or not file.is_file():
            found.append(f"no policy at {policy}")
        elif run(binary(), "check", file).returncode:
            found.append(f"{policy} is not a policy")

    published = {port: address for address, _, port in ports(service)}
    for address in has["listen"]:
        host, port = host_and_port(address)
        if host != "0.0.0.0":
            found.append(f"{address} cannot be reached from outside the container")
        if port not in published:
            found.append(f"port {port} is not published")
    if not has["listen"]:
        found.append("it listens nowhere")
    admin_host, admin_port = host_and_port(has["admin"])
    expected = {host_and_port(address)[1] for address in has["listen"]} | {admin_port}
    found += [f"nothing listens on the published port {port}" for port in published if port not in expected]
    if admin_port in published:
        if admin_host != "0.0.0.0":
            found.append(f"admin port {admin_port} is published, and listens on {admin_host}")
        if published[admin_port] != "127.0.0.1":
            found.append(f"admin port {admin_port} is published to everybody")
    return found


def problems(compose, folder):
    """All contradictions between the file, the program and its config."""
    services = compose["services"]
    service = services["s3cors"]
    has = settings(service, folder)
    variables = service.get("environment", {})
    found = of_container(service, folder)
    build = service.get("build", {})
    if not (folder / build.get("context", "") / build.get("dockerfile", "missing")).is_file():
        found.append("no Dockerfile to build it from")
    for name, other in services.items():
        if not re.search(r":[\w.-]*\d[\w.-]*$|@sha256:[0-9a-f]{64}$", other["image"]):
            found.append(f"{name}: {other['image']} names no version")
        for target, source in mounts(other, folder):
            if not source.exists():
                found.append(f"{name}: nothing to mount at {target}")

    if service.get("healthcheck", {}).get("test") != ["CMD", "/s3cors", "health"]:
        found.append("its health check is not `s3cors health`")
    _, admin_port = host_and_port(has["admin"])
    asked = host_and_port(variables["S3CORS_ADMIN"])[1] if "S3CORS_ADMIN" in variables else ADMIN_PORT
    if asked != admin_port:
        found.append(f"`s3cors health` asks port {asked}, and admin listens on {admin_port}")
    if not (service.get("read_only") and service.get("cap_drop") == ["ALL"] and service.get("security_opt") == ["no-new-privileges:true"]):
        found.append("it may do more than it needs")
    if int(service.get("stop_grace_period", "10s").removesuffix("s")) <= DRAIN_SECONDS:
        found.append("it is killed before its drain ends")

    for upstream in has["upstreams"]:
        host, port = host_and_port(upstream)
        if host not in services:
            found.append(f"upstream {host} is not a service")
        elif serves_port(services[host]) != port:
            found.append(f"upstream {upstream}: {host} listens on {serves_port(services[host])}")
    if prometheus := services.get("prometheus"):
        file = inside("/etc/prometheus/prometheus.yml", prometheus, folder)
        for job in yaml.safe_load(file.read_text())["scrape_configs"]:
            for target in [each for group in job["static_configs"] for each in group["targets"]]:
                host, port = host_and_port(target)
                if host not in services or port != admin_port:
                    found.append(f"Prometheus asks {target}, and admin listens on {admin_port}")
                if host not in has["hosts"]:
                    found.append(f"`admin.hosts` does not list {host}, by which Prometheus asks")
    return found
