"""The Debian package: built, installed on this machine, used and upgraded in this order, and purged.

No systemd runs here: its tools check the units, and a supervisor in the tests handles
ExecStart, ExecReload and the sockets.
"""

import contextlib
import fcntl
import http.client
import http.server
import os
import pathlib
import re
import shlex
import shutil
import signal
import socket
import subprocess
import threading

import pytest

from fake_systemd import Systemd
from places import DEPLOY, ROOT, binary, passes, run
from programs import free_ports
from proxy import policy, rule
from supervisor import Supervised, listening

DEBIAN = DEPLOY / "debian"
WORK = ROOT / "target/debian-tests"
RUN = WORK / "run/systemd"
CONFIG = pathlib.Path("/etc/s3cors/s3cors.toml")
POLICY = pathlib.Path("/etc/s3cors/cors.xml")
PROGRAM = pathlib.Path("/usr/bin/s3cors")
UNITS = pathlib.Path("/usr/lib/systemd/system")
# Any port, because those in the shipped config may be in use on this machine.
ANY_PORT = {"S3CORS_LISTEN": "127.0.0.1:0", "S3CORS_ADMIN": "127.0.0.1:0"}
POSTINST = pathlib.Path("/var/lib/dpkg/info/s3cors.postinst")
UNATTENDED = {"DEBIAN_FRONTEND": "noninteractive", "DPKG_FRONTEND_LOCKED": "1"}

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("dpkg"), reason="only root on Debian can install a package"
)


def dpkg(*arguments, variables=None):
    """Unattended dpkg; waits while another dpkg or apt-get is running."""
    with open("/var/lib/dpkg/lock-frontend", "w", encoding="utf-8") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX)
        return passes("dpkg", "--force-unsafe-io", *arguments, env=os.environ | UNATTENDED | (variables or {}))


def installed_version():
    done = run("dpkg-query", "--show", "--showformat", "${db:Status-Abbrev}${Version}", "s3cors")
    return done.stdout.strip() if done.returncode == 0 else None


def left_overs():
    """All of its files in the folders of packages and services."""
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
    """The same package with a higher version and different configuration files."""
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
def handover_package(package):
    """The same package with a higher version, for the tests' systemd: its folder is `RUN`, and restarts are allowed."""
    tree = WORK / "handover"
    passes("dpkg-deb", "--raw-extract", package, tree)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", "Version: 98.0-1", control.read_text()))
    for script in (tree / "DEBIAN/postinst", tree / "usr/lib/s3cors/handover"):
        text = script.read_text()
        assert "/run/systemd/system" in text
        script.write_text(text.replace("/run/systemd", str(RUN)).replace("/usr/sbin/policy-rc.d", str(WORK / "policy-rc.d")))
    target = WORK / "s3cors_98.0-1.deb"
    passes("dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, target)
    return target


@pytest.fixture(scope="module")
def installed(package):
    """The installed package. It is not installed before or after these tests, which share the installation."""
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
    """Restores the package's configuration files after the test."""
    texts = {path: path.read_text() for path in (CONFIG, POLICY)}
    yield
    for path, text in texts.items():
        path.write_text(text)


def settings(unit):
    """The unit's settings; repeated ones as a list, in order."""
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
    # Nothing opens a port before the user has configured an upstream.
    enabled = [run("systemctl", "--root=/", "is-enabled", unit.name).stdout.strip() for unit in units]
    assert enabled == ["disabled"] * 3


def test_its_configuration_files_are_declared(package):
    assert passes("dpkg-deb", "--info", package, "conffiles").split() == [
        str(CONFIG),
        str(POLICY),
        "/etc/logrotate.d/s3cors",
    ]


def test_it_only_needs_system_libraries(package):
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
    # bash-completion loads it this way.
    script = (
        "source /usr/share/bash-completion/completions/s3cors; complete -p s3cors; "
        "COMP_WORDS=(s3cors exp) COMP_CWORD=1; _s3cors s3cors exp s3cors; echo ${COMPREPLY[@]}"
    )
    assert passes("bash", "-c", script).split()[-1] == "explain"


def test_the_service_starts_reloads_and_stops_with_its_unit(configuration, folder):
    service = settings("s3cors.service")
    (start,) = service["ExecStart"]
    with Supervised(folder, command=shlex.split(start), variables=ANY_PORT) as running:
        assert running.until("READY")["STATUS"] == "serving configuration 1"
        port = int(running.wait_for(r"listening address=127\.0\.0\.1:(\d+)")[1])
        assert (preflight(port, "https://app.example.com"), preflight(port, "https://shop.example")) == (200, 403)

        def reload():
            """`systemctl reload`: runs each ExecReload in turn until one fails."""
            for line in service["ExecReload"]:
                words = [word.replace("$MAINPID", str(running.process.pid)) for word in shlex.split(line)]
                done = run(pathlib.Path(words[0]), *words[1:])
                if done.returncode:
                    return done.stdout
            return None

        POLICY.write_text(policy(rule(["https://shop.example"])))
        assert reload() is None
        assert running.until("RELOADING")["MONOTONIC_USEC"].isdigit()
        assert running.until("READY")["STATUS"].startswith("serving configuration ")
        assert (preflight(port, "https://app.example.com"), preflight(port, "https://shop.example")) == (403, 200)

        # Only the signal is sent; the status shows the result.
        POLICY.write_text("<CORSConfiguration>")
        assert reload() is None
        assert running.until("RELOADING")
        assert running.until("READY")["STATUS"].endswith("the last change was rejected: see the log")
        running.wait_for(r"cors\.xml:1:1")
        assert preflight(port, "https://shop.example") == 200

        # A file that only the service can read, such as a credential, does not make the reload
        # fail.
        POLICY.unlink()
        assert reload() is None
        assert running.until("RELOADING")
        assert running.until("READY")
        assert preflight(port, "https://shop.example") == 200

        running.signal(signal.SIGTERM)
        assert running.until("STOPPING")["STATUS"] == "draining"
        assert running.wait() == 0


def test_it_uses_the_socket_of_the_socket_unit(configuration, folder):
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


class Keeping(threading.local):
    """Sends requests on a connection that a thread keeps until a response closes it."""

    def __init__(self, port):
        self._port = port
        self._connection = None

    def __call__(self):
        connection, self._connection = self._connection, None
        connection = connection or http.client.HTTPConnection("127.0.0.1", self._port, timeout=30)
        connection.request("GET", "/a", headers={"Host": "a"})
        response = connection.getresponse()
        assert (response.status, response.read()) == (200, b"ok")
        if not response.will_close:
            self._connection = connection


class Load:
    """Clients that send requests without a pause, and an upstream with downloads that end on demand.

    Every other client keeps its connection as long as the responses allow.
    """

    CLIENTS = 8
    HALF = 300_000

    def __init__(self, port):
        self._port = port
        self.failures = []
        self.answered = 0
        self._changed = threading.Condition()
        self._over = threading.Event()
        self._may_end = {name: threading.Event() for name in ("first", "second")}
        self._downloads = {}
        load = self

        class Upstream(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                may_end = load._may_end.get(self.path[1:])
                self.send_response(200)
                self.send_header("Content-Length", str(2 * Load.HALF if may_end else 2))
                self.end_headers()
                if may_end:
                    self.wfile.write(b"a" * Load.HALF)
                    self.wfile.flush()
                    may_end.wait(60)
                    self.wfile.write(b"b" * Load.HALF)
                else:
                    self.wfile.write(b"ok")

            def log_message(self, *_):
                pass

        self._upstream = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Upstream)
        self._upstream.daemon_threads = True
        self.upstream_port = self._upstream.server_address[1]
        threading.Thread(target=self._upstream.serve_forever, args=(0.05,), daemon=True).start()
        ways = [self._ask_once, Keeping(port)]
        self._clients = [
            threading.Thread(target=self._ask_again_and_again, args=[ways[number % 2]]) for number in range(self.CLIENTS)
        ]

    def __enter__(self):
        for client in self._clients:
            client.start()
        self.wait_for_more()
        return self

    def __exit__(self, *_):
        self._over.set()
        for each in self._may_end.values():
            each.set()
        for client in self._clients:
            client.join()
        self._upstream.shutdown()
        self._upstream.server_close()

    def _ask_again_and_again(self, ask):
        while not self._over.is_set():
            try:
                ask()
            except (OSError, AssertionError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
            with self._changed:
                self.answered += 1
                self._changed.notify_all()

    def _ask_once(self):
        with socket.create_connection(("127.0.0.1", self._port), timeout=30) as connection:
            connection.sendall(b"GET /a HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            answer = connection.makefile("rb").read()
        assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"\r\n\r\nok"), answer

    def wait_for_more(self, count=200):
        """Waits until this many more requests were answered."""
        with self._changed:
            wanted = self.answered + count
            assert self._changed.wait_for(lambda: self.answered >= wanted, 60)

    def download(self, name):
        """Begins a download and reads its first half."""
        connection = socket.create_connection(("127.0.0.1", self._port), timeout=60)
        connection.sendall(f"GET /{name} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        stream = connection.makefile("rb")
        while stream.readline() != b"\r\n":
            pass
        assert stream.read(self.HALF) == b"a" * self.HALF
        self._downloads[name] = connection, stream

    def end(self, name):
        """Lets a download end; returns whether it is complete."""
        self._may_end[name].set()
        connection, stream = self._downloads.pop(name)
        with connection:
            return stream.read() == b"b" * self.HALF


def install_again(package):
    """Installs the first version unless it is already installed."""
    version = passes("dpkg-deb", "--field", package, "Version").strip()
    if installed_version() != f"ii {version}":
        dpkg("--force-downgrade", "--install", package)


@pytest.mark.parametrize("listener", ["address", "socket"])
def test_an_upgrade_under_load_refuses_and_cuts_nothing(configuration, package, handover_package, folder, listener):
    """Uses the real dpkg and a fake systemd. Each process that stops has a download in progress."""
    install_again(package)
    shutil.rmtree(RUN, ignore_errors=True)
    (RUN / "system").mkdir(parents=True)
    port, admin_port = free_ports(2)
    load = Load(port)
    address, sockets = f"127.0.0.1:{port}", {}
    with contextlib.ExitStack() as open_sockets:
        if listener == "socket":
            opened = open_sockets.enter_context(socket.create_server(("127.0.0.1", port), backlog=4096))
            (name,) = settings("s3cors.socket")["FileDescriptorName"]
            address, sockets = f"systemd:{name}", {"s3cors.socket": (name, opened)}
        config = CONFIG.read_text().replace("127.0.0.1:8080", address).replace("127.0.0.1:9000", f"127.0.0.1:{load.upstream_port}")
        CONFIG.write_text(f'{config}\n[admin]\naddress = "127.0.0.1:{admin_port}"\n')
        with Systemd(folder, [RUN / "system", UNITS], sockets=sockets) as systemd:
            assert systemd.call(["start", "s3cors.service"])[0] == 0, systemd.done
            before = systemd.running["s3cors.service"].process.pid
            with load:
                load.download("first")
                path = {"PATH": f"{systemd.path}:{os.environ['PATH']}"}
                upgrade = threading.Thread(target=lambda: dpkg("--force-confold", "--install", handover_package, variables=path))
                upgrade.start()
                try:
                    systemd.wait_until("stopping", "s3cors.service")
                    load.wait_for_more()
                    # The second process serves new requests.
                    load.download("second")
                    assert load.end("first")
                    systemd.wait_until("stopping", "s3cors-handover.service")
                    load.wait_for_more()
                    assert load.end("second")
                finally:
                    upgrade.join()
                load.wait_for_more()
            assert load.failures == [], f"{len(load.failures)} of {load.answered}"
            assert installed_version() == "ii 98.0-1"
            assert systemd.done == [
                ("started", "s3cors.service"),
                ("started", "s3cors-handover.service"),
                ("stopping", "s3cors.service"),
                ("stopped", "s3cors.service"),
                ("started", "s3cors.service"),
                ("stopping", "s3cors-handover.service"),
                ("stopped", "s3cors-handover.service"),
            ]
            assert systemd.running["s3cors.service"].process.pid != before
            assert not list((RUN / "system").iterdir())


def test_an_upgrade_that_would_not_start_leaves_the_old_process(configuration, package, handover_package, folder):
    install_again(package)
    shutil.rmtree(RUN, ignore_errors=True)
    (RUN / "system").mkdir(parents=True)
    port, admin_port = free_ports(2)
    good = CONFIG.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{port}")
    good += f'\n[admin]\naddress = "127.0.0.1:{admin_port}"\n'
    CONFIG.write_text(good)
    with Systemd(folder, [RUN / "system", UNITS]) as systemd:
        assert systemd.call(["start", "s3cors.service"])[0] == 0
        before = systemd.running["s3cors.service"].process.pid
        CONFIG.write_text(good.replace("upstream", "upstraem"))
        path = {"PATH": f"{systemd.path}:{os.environ['PATH']}"}
        said = dpkg("--force-confold", "--install", handover_package, variables=path)
        assert "s3cors.service keeps running unchanged" in said and "not restarted" in said
        assert systemd.running["s3cors.service"].process.pid == before and systemd.is_active("s3cors.service")
        assert preflight(port, "https://app.example.com") == 200
        assert ("failed", "s3cors-handover.service") in systemd.done
        assert not list((RUN / "system").iterdir())

        # A restart that the administrator has forbidden does not happen.
        CONFIG.write_text(good)
        forbids = WORK / "policy-rc.d"
        forbids.write_text("#!/bin/sh\nexit 101\n")
        forbids.chmod(0o755)
        try:
            count = len(systemd.done)
            passes("sh", POSTINST, "configure", "0.0.9-1", env=os.environ | path)
            assert len(systemd.done) == count
        finally:
            forbids.unlink()
        passes("sh", POSTINST, "configure", "0.0.9-1", env=os.environ | path)
        assert ("stopped", "s3cors-handover.service") in systemd.done


def test_an_upgrade_keeps_the_users_changes_and_updates_the_rest(installed, next_package):
    mine = CONFIG.read_text().replace("9000", "9001")
    CONFIG.write_text(mine)
    dpkg("--force-confdef", "--force-confold", "--install", next_package)
    assert installed_version() == "ii 99.0-1"
    assert CONFIG.read_text() == mine
    assert CONFIG.with_name("s3cors.toml.dpkg-dist").read_text().endswith("# of 99.0\n")
    # This one had not been changed.
    assert POLICY.read_text().endswith("<!-- of 99.0 -->\n")


def test_removing_keeps_the_configuration_and_purging_removes_everything(installed):
    mine = CONFIG.read_text().replace("9001", "9000").replace("9000", "9002")
    CONFIG.write_text(mine)
    # Created like systemd does for a DynamicUser.
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
    # `installed` checks for everything else.


def stand_ins(folder, *names):
    """Programs that record how they were called, and the variables to find them."""
    for name in names:
        (folder / name).write_text(f'#!/bin/sh\necho {name} "$@" >>{folder}/calls\n')
        (folder / name).chmod(0o755)
    return {"PATH": f"{folder}:{os.environ['PATH']}"}


def test_its_logs_are_rotated_and_reopened(folder):
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


def test_a_large_log_is_rotated_before_its_week_is_over():
    assert re.search(r"^\tmaxsize \d+M$", (DEBIAN / "logrotate").read_text(), re.MULTILINE)


def test_the_changelog_of_the_package_begins_with_the_crates_version():
    manifest = (ROOT / "Cargo.toml").read_text()
    version = re.search(r'(?m)^version = "(.+)"', manifest)[1]
    assert (DEBIAN / "changelog").read_text().startswith(f"s3cors ({version}-1) ")
