"""The Debian package: built, installed on this machine, driven through its life in this order, and purged.

There is no systemd here that runs: the units are checked by its tools, and what it would do with
ExecStart, ExecReload and the sockets a supervisor of the tests does.
"""

import fcntl
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess

import pytest

from places import DEPLOY, ROOT, binary, passes, run
from proxy import policy, rule
from supervisor import Supervised, listening

DEBIAN = DEPLOY / "debian"
WORK = ROOT / "target/debian-tests"
CONFIG = pathlib.Path("/etc/s3cors/s3cors.toml")
POLICY = pathlib.Path("/etc/s3cors/cors.xml")
PROGRAM = pathlib.Path("/usr/bin/s3cors")
UNITS = pathlib.Path("/usr/lib/systemd/system")
# Any port: those of the shipped config may be taken on this machine.
ANY_PORT = {"S3CORS_LISTEN": "127.0.0.1:0", "S3CORS_ADMIN": "127.0.0.1:0"}
UNATTENDED = {"DEBIAN_FRONTEND": "noninteractive", "DPKG_FRONTEND_LOCKED": "1"}

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("dpkg"), reason="only root on Debian can install a package"
)


def dpkg(*arguments):
    """dpkg, unattended; it waits while another one, or apt-get, is at work."""
    with open("/var/lib/dpkg/lock-frontend", "w", encoding="utf-8") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        return passes("dpkg", "--force-unsafe-io", *arguments, env=os.environ | UNATTENDED)


def installed_version():
    done = run("dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}${Version}", "s3cors")
    return done.stdout.strip() if done.returncode == 0 else None


def left_overs():
    """All that is named for it where packages and services put things."""
    roots = ["/etc", "/run", "/usr", "/var/lib", "/var/log"]
    found = passes("find", *roots, "-xdev", "-path", "/usr/local", "-prune", "-o", "-name", "*s3cors*", "-print")
    return [path for path in found.splitlines() if ROOT not in pathlib.Path(path).parents]


@pytest.fixture(scope="module")
def package():
    shutil.rmtree(WORK, ignore_errors=True)
    built = subprocess.run(
        [DEBIAN / "build", WORK, "--fast"],
        env=os.environ | {"S3CORS_BIN": str(binary())},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return pathlib.Path(built.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def next_package(package):
    """The same with a higher version, and with other files of configuration."""
    tree = WORK / "next"
    passes("dpkg-deb", "--raw-extract", package, tree)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", "Version: 99.0-1", control.read_text()))
    for conffile in (tree / "DEBIAN/conffiles").read_text().split():
        path = tree / conffile[1:]
        end = "<!-- of 99.0 -->\n" if path.suffix == ".xml" else "# of 99.0\n"
        path.write_text(path.read_text() + end)
    target = WORK / "s3cors_99.0-1.deb"
    passes("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, target)
    return target


@pytest.fixture(scope="module")
def installed(package):
    """The package on this machine, which is without it before and after: the tests are one life."""
    assert installed_version() is None, "s3cors is installed here, and these tests would remove it"
    before = left_overs()
    try:
        dpkg("--install", package)
        yield
    finally:
        if installed_version() is not None:
            dpkg("--purge", "s3cors")
    assert left_overs() == before


@pytest.fixture
def configuration(installed):
    """Puts the package's files of configuration back when the test is done with them."""
    texts = {path: path.read_text() for path in (CONFIG, POLICY)}
    yield
    for path, text in texts.items():
        path.write_text(text)


def settings(unit):
    """The unit's settings; those that stand several times as a list, in order."""
    found = {}
    for line in (UNITS / unit).read_text().splitlines():
        if "=" in line and line[0] not in "#[":
            key, value = line.split("=", 1)
            found.setdefault(key, []).append(value)
    return found


def preflight(port, origin):
    """The status of a preflight from a page of this origin."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(
            b"OPTIONS /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccess-Control-Request-Method: GET\r\n"
            + f"Origin: {origin}\r\n\r\n".encode()
        )
        return int(connection.makefile("rb").readline().split()[1])


def test_everything_is_in_its_place(installed):
    assert installed_version().startswith("ii ")
    assert passes("dpkg", "--verify", "s3cors") == ""
    assert passes(PROGRAM, "--version").startswith("s3cors ")
    assert passes(PROGRAM, "check", "--config", CONFIG, "--deny-warnings") == "ok: 1 route, 1 policy\n"
    # The documentation that the units name is there too, and so is the program.
    units = sorted(UNITS.glob("s3cors*"))
    assert [unit.name for unit in units] == ["s3cors-https.socket", "s3cors.service", "s3cors.socket"]
    said = passes("systemd-analyze", "verify", *units)
    assert "s3cors" not in said, said
    # Nothing opens a port before somebody said what for.
    enabled = [run("systemctl", "--root=/", "is-enabled", unit.name).stdout.strip() for unit in units]
    assert enabled == ["disabled"] * 3


def test_its_files_of_configuration_are_known_as_such(package):
    assert passes("dpkg-deb", "--info", package, "conffiles").split() == [
        str(CONFIG),
        str(POLICY),
        "/etc/logrotate.d/s3cors",
    ]


def test_it_needs_nothing_but_libraries_of_the_system(package):
    depends = passes("dpkg-deb", "--field", package, "Depends")
    assert re.fullmatch(r"libc6 \(>= [\d.]+\), procps\n", depends), depends


def test_every_command_has_its_page_and_bash_completes(installed):
    commands = re.findall(r"(?m)^  (\w+)  ", passes(PROGRAM, "--help").split("Options:")[0])
    assert len(commands) >= 7
    pages = {path.name for path in pathlib.Path("/usr/share/man/man1").glob("s3cors*")}
    assert {"s3cors.1.gz", *(f"s3cors-{command}.1.gz" for command in commands)} <= pages
    for page in pages:
        said = passes("mandoc", "-Tlint", "-Werror", f"/usr/share/man/man1/{page}")
        assert said == ""
    # As bash-completion loads it.
    script = (
        "source /usr/share/bash-completion/completions/s3cors; complete -p s3cors; "
        "COMP_WORDS=(s3cors exp) COMP_CWORD=1; _s3cors s3cors exp s3cors; echo ${COMPREPLY[@]}"
    )
    assert passes("bash", "-c", script).split()[-1] == "explain"


def test_the_service_starts_reloads_and_stops_as_its_unit_says(configuration, folder):
    service = settings("s3cors.service")
    (start,) = service["ExecStart"]
    with Supervised(folder, command=shlex.split(start), variables=ANY_PORT) as running:
        assert running.until("READY")["STATUS"] == "serving; configuration 1 is in force"
        port = int(running.wait_for(r"listening address=127\.0\.0\.1:(\d+)")[1])
        assert (preflight(port, "https://app.example.com"), preflight(port, "https://shop.example")) == (200, 403)

        def reload():
            """`systemctl reload`: each ExecReload in turn, as long as none fails."""
            for line in service["ExecReload"]:
                words = [word.replace("$MAINPID", str(running.process.pid)) for word in shlex.split(line)]
                done = run(pathlib.Path(words[0]), *words[1:])
                if done.returncode:
                    return done.stdout
            return None

        POLICY.write_text(policy(rule(["https://shop.example"])))
        assert reload() is None
        assert running.until("RELOADING")["MONOTONIC_USEC"].isdigit()
        assert running.until("READY")["STATUS"].startswith("serving; configuration ")
        assert (preflight(port, "https://app.example.com"), preflight(port, "https://shop.example")) == (403, 200)

        POLICY.write_text("<CORSConfiguration>")
        assert "cors.xml:1:1" in reload()
        assert preflight(port, "https://shop.example") == 200

        running.signal(signal.SIGTERM)
        assert running.until("STOPPING")["STATUS"] == "draining"
        assert running.wait() == 0


def test_it_takes_the_socket_that_the_socket_unit_opens(configuration, folder):
    (name,) = settings("s3cors.socket")["FileDescriptorName"]
    CONFIG.write_text(CONFIG.read_text().replace('"127.0.0.1:8080"', f'"systemd:{name}"'))
    (start,) = settings("s3cors.service")["ExecStart"]
    opened, port = listening()
    variables = {"S3CORS_ADMIN": "127.0.0.1:0"}
    with opened, Supervised(
        folder, command=shlex.split(start), variables=variables, sockets={name: opened}
    ) as running:
        running.until("READY")
        assert preflight(port, "https://app.example.com") == 200


def test_an_upgrade_keeps_what_the_user_changed_and_brings_the_rest(installed, next_package):
    mine = CONFIG.read_text().replace("9000", "9001")
    CONFIG.write_text(mine)
    dpkg("--force-confdef", "--force-confold", "--install", next_package)
    assert installed_version() == "ii 99.0-1"
    assert CONFIG.read_text() == mine
    assert CONFIG.with_name("s3cors.toml.dpkg-dist").read_text().endswith("# of 99.0\n")
    # Nobody had touched this one.
    assert POLICY.read_text().endswith("<!-- of 99.0 -->\n")


def test_removed_it_leaves_its_configuration_and_purged_it_leaves_nothing(installed):
    mine = CONFIG.read_text().replace("9001", "9000").replace("9000", "9002")
    CONFIG.write_text(mine)
    # As systemd lays them out for a DynamicUser.
    logs, link = pathlib.Path("/var/log/private/s3cors"), pathlib.Path("/var/log/s3cors")
    logs.mkdir(parents=True)
    link.symlink_to(logs)
    (logs / "access.log").write_text("a line\n")
    dpkg("--remove", "s3cors")
    assert not PROGRAM.exists()
    assert CONFIG.read_text() == mine
    assert (logs / "access.log").exists()
    dpkg("--purge", "s3cors")
    assert not CONFIG.parent.exists() and not logs.exists() and not link.is_symlink()
    # `installed` looks for anything else.


def stand_ins(folder, *names):
    """Programs that write down how they were called; the variables with which they are found."""
    for name in names:
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{folder}/calls\n')
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_its_logs_are_rotated_and_opened_anew(folder):
    logs = folder / "logs"
    logs.mkdir()
    (logs / "access.log").write_text("a line\n")
    (folder / "run/systemd/system").mkdir(parents=True)
    path = stand_ins(folder, "systemctl")
    rules = (DEBIAN / "logrotate").read_text()
    rules = rules.replace("/var/log/s3cors", str(logs)).replace("/run/systemd", f"{folder}/run/systemd")
    (folder / "rules").write_text(rules)
    passes("logrotate", "--force", "--state", folder / "state", folder / "rules", env=os.environ | path)
    assert (logs / "access.log.1").read_text() == "a line\n"
    assert (folder / "calls").read_text() == "systemctl kill --kill-who=main --signal=USR1 s3cors.service\n"


@pytest.mark.parametrize("is_good", [True, False], ids=["good", "bad"])
def test_an_upgrade_restarts_the_service_only_where_it_would_start(folder, is_good):
    """The package's own script, with this folder for the root and with programs that tell of their calls."""
    (folder / "run/systemd/system").mkdir(parents=True)
    (folder / "etc").mkdir()
    config = (DEBIAN / "s3cors.toml").read_text()
    (folder / "etc/s3cors.toml").write_text(config if is_good else config.replace("upstream", "upstraem"))
    shutil.copy(DEBIAN / "cors.xml", folder / "etc")
    path = stand_ins(folder, "systemctl", "deb-systemd-invoke")
    (folder / "s3cors").symlink_to(binary())
    script = (DEBIAN / "scripts/postinst").read_text()
    script = script.replace("/run/systemd", f"{folder}/run/systemd").replace("/etc/s3cors/", f"{folder}/etc/")
    (folder / "postinst").write_text(script)
    said = passes("sh", folder / "postinst", "configure", "0.0.9-1", env=os.environ | path)
    calls = (folder / "calls").read_text()
    assert "systemctl --system daemon-reload" in calls
    assert ("deb-systemd-invoke try-restart s3cors.service" in calls) == is_good
    assert ("is not restarted" in said) != is_good


def test_the_changelog_of_the_package_begins_with_the_crates_version():
    manifest = (ROOT / "Cargo.toml").read_text()
    version = re.search(r'(?m)^version = "(.+)"', manifest)[1]
    assert (DEBIAN / "changelog").read_text().startswith(f"s3cors ({version}-1) ")
