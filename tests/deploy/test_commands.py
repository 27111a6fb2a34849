"""Every command in the documentation is typed into a shell, in a copy of the files that it names.

s3cors, curl, openssl and the shell's own tools are real. Programs that are not here, or that would change the
machine or build for minutes, have a stand-in (`stand_in.py`): it checks that the files, charts, units, test parts
and features in its arguments exist, and prints what an import reads.
"""

import gzip
import os
import re
import shutil
import subprocess
import sys

import pytest

from pages import PAGES, blocks, inline_commands, name
from places import DEPLOY, ROOT, binary
from programs import Program
from proxy import environment

STAND_INS = (
    "apt aws az cargo cdk certbot docker gcloud git helm journalctl kubectl mc minio promtool ssh systemctl terraform"
).split()
SCRIPTS = (
    "tests/run tests/fuzz/run benches/instructions benches/peers/run benches/scale deploy/debian/build"
    " target/clients/venv/bin/pytest"
).split()
# What a reader puts in place of a word.
PLACEHOLDERS = {
    "CONFIG": "s3cors.toml",
    "FILE.xml": "photos.xml",
    "FILE": "site.crt",
    "COMMAND": "check",
    "HOST/PATH": "photos.example.com/cat.jpg",
    "ORIGIN": "https://app.example.com",
    "<ADDRESS>": "a@example.com",
}
# A script's question is answered, even where the answer is that it is refused, or that something was lost.
ANSWERS = ("explain", "import", "verdict", "probe", "diagnose")
SHIM = """#!/bin/bash
[[ " {answers} " == *" $1 "* ]] || exec {binary} "$@"
{binary} "$@" || [[ $? == 1 ]]
"""
LOG = (
    '{"time":"2026-12-01T00:00:00.000Z","route":"photos","method":"GET","host":"photos.example.com","target":"/cat.jpg",'
    '"version":"HTTP/1.1","status":200,"origin":"https://app.example.com"}\n'
)
HAR = """{"log": {"version": "1.2", "creator": {"name": "t", "version": "1"}, "entries": [{
  "startedDateTime": "2026-12-01T00:00:00.000Z", "time": 1, "_resourceType": "fetch",
  "request": {"method": "GET", "url": "http://photos.example.com/cat.jpg", "httpVersion": "HTTP/1.1", "cookies": [],
    "headers": [{"name": "Origin", "value": "https://www.example.com"}], "queryString": [], "headersSize": -1, "bodySize": 0},
  "response": {"status": 200, "statusText": "OK", "httpVersion": "HTTP/1.1", "cookies": [], "headers": [],
    "content": {"size": 0, "mimeType": ""}, "redirectURL": "", "headersSize": -1, "bodySize": 0},
  "cache": {}, "timings": {"send": 0, "wait": 1, "receive": 0}}]}}"""


@pytest.fixture
def workplace(folder):
    """What the commands need, as if the reader had cloned, built, installed and made the files that a page asks for."""
    for part in ["config", "deploy"]:
        shutil.copytree(ROOT / part, folder / part)
    tools = folder / "tools"
    tools.mkdir()
    for program in STAND_INS:
        (tools / program).symlink_to(DEPLOY.parent / "tests/deploy/stand_in.py")
    for script in SCRIPTS:
        path = folder / script
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        path.symlink_to(DEPLOY.parent / "tests/deploy/stand_in.py")
    shim = tools / "s3cors"
    shim.write_text(SHIM.format(binary=binary(), answers=" ".join(ANSWERS)))
    shim.chmod(0o755)
    for made in ["root/etc/s3cors", "root/usr/lib/s3cors", "team-a", "team-b", "target/debian"]:
        (folder / made).mkdir(parents=True)
    (folder / "root/usr/lib/s3cors/handover").symlink_to(folder / "deploy/systemd/handover")
    for file in ["s3cors.toml", "cors.xml"]:
        shutil.copy(DEPLOY / "debian" / file, folder / "root/etc/s3cors")
    for debian in ["s3cors_0.1.0-1_amd64.deb"]:
        (folder / "target/debian" / debian).touch()
    for file in [*(DEPLOY / "troubleshooting").glob("*.*ml"), DEPLOY / "sidecar/cors.xml"]:
        shutil.copy(file, folder)
    (folder / "s3cors").symlink_to(binary())
    shutil.copy(ROOT / "tests/data/import/s3-r2.json", folder / "r2-cors.json")
    (folder / "access.json").write_text(LOG)
    (folder / "access.json.1.gz").write_bytes(gzip.compress(LOG.encode()))
    for file in ["Cargo.toml", "CHANGELOG.md"]:
        shutil.copy(ROOT / file, folder)
    (folder / "chrome-net-export-log.json").write_text(HAR)
    (folder / "values.yaml").write_text("{}\n")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=a", "-keyout", "site.key", "-out", "site.crt"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture
def served(workplace):
    """A running s3cors, for the commands that ask one."""
    addresses = ["--listen=127.0.0.1:0", "--admin=127.0.0.1:0"]
    config = ["--config", workplace / "s3cors.toml"]
    with Program("s3cors", [binary(), "run", *config, *addresses], cwd=workplace, env=environment()) as program:
        listener = program.wait_for(r" listening .*address=(127\.0\.0\.1:\d+)")[1]
        admin = program.wait_for(r"(?:operator|admin).*address=(127\.0\.0\.1:\d+)")[1]
        yield listener, admin


def typed(command, listener, admin):
    """The command with this machine's addresses and names in place of the page's."""
    for word, stands_for in PLACEHOLDERS.items():
        command = re.sub(rf"(?<![\w./-]){re.escape(word)}(?![\w.])", stands_for, command)
    command = re.sub(r"(?<!_)UPSTREAM(?!=)", f"http://{listener}/", command).replace("http://ADMIN", f"http://{admin}")
    command = command.replace("127.0.0.1:9901/", f"{admin}/")
    command = re.sub(r"https://s3\.example\.com|http://s3\.example\.com:8080", f"http://{listener}", command)
    command = re.sub(r"(?<![\w.:=\"])/(etc|usr)/", r"root/\1/", command)
    # A stream has no end by itself.
    return command.replace("curl -N", "curl --no-buffer --max-time 1 --silent --output /dev/null --write-out '%{http_code}'")


def ends_well(command, done):
    stream = "--max-time" in command and done.returncode == 28 and done.stdout == "200"
    return (done.returncode == 0 or stream) and "No such file" not in done.stderr


def run(command, workplace, addresses, page):
    variables = environment() | {
        "PATH": f"{workplace / 'tools'}:{os.environ['PATH']}",
        "S3CORS_ROOT": str(ROOT),
        "S3CORS_ADMIN": addresses[1],
        "PAGE": str(page.parent),
        "SECRET": "secret",
        "PYTHON": sys.executable,
        "NO_PROXY": "*",
    }
    line = typed(command, *addresses)
    words = line.split()
    if words[0] == "s3cors" and len(words) == 2 and not words[1].startswith("-"):
        # A sentence about this command.
        line += " --help"
    elif re.match(r"s3cors (run|demo)\b", line):
        server = ["bash", "-c", f"exec {line}"]
        with Program("s3cors", server, cwd=workplace, env=variables | {"S3CORS_LISTEN": "127.0.0.1:0", "S3CORS_ADMIN": "127.0.0.1:0"}) as program:
            program.wait_for(" listening ")
        return
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", line], cwd=workplace, env=variables, capture_output=True, text=True, timeout=60, check=False
    )
    assert ends_well(line, done), f"{name(page)}:\n$ {command}\n{line}\nexit code {done.returncode}\n{done.stdout[-800:]}{done.stderr[-800:]}"


def put(page, workplace):
    """The files beside the page are where its reader is."""
    for file in page.parent.iterdir():
        if file.is_file() and not (workplace / file.name).exists():
            shutil.copy(file, workplace)


WITH_BLOCKS = [page for page in PAGES if blocks(page.read_text(), "sh")]
WITH_INLINE = [page for page in PAGES if inline_commands(page.read_text())]


@pytest.mark.parametrize("page", WITH_BLOCKS, ids=name)
def test_the_commands_of_a_page_can_be_typed(page, workplace, served):
    put(page, workplace)
    for block in blocks(page.read_text(), "sh"):
        run(block, workplace, served, page)


@pytest.mark.parametrize("page", WITH_INLINE, ids=name)
def test_the_commands_in_the_sentences_of_a_page_can_be_typed(page, workplace, served):
    put(page, workplace)
    for command in inline_commands(page.read_text()):
        # These only name something: `…` stands for arguments, and flags alone have none.
        if "…" not in command and not re.fullmatch(r"(curl|openssl \w+)( -\w+)*", command):
            run(command, workplace, served, page)


@pytest.mark.parametrize(
    "wrong",
    [
        "s3cors explain --config s3cors.toml --orign https://a.example",
        "s3cors check --config missing.toml",
        "systemctl enable --now s3cors-http.socket",
        "kubectl apply -k deploy/kubernetes/standalne",
        "helm install s3cors deploy/helm/s3cors -f missing.yaml",
        "docker build -f deploy/container/Dockerfil .",
        "cargo build --features otpl",
        "tests/run units",
        "tests/fuzz/run 60 decided",
        "nosuchprogram --help",
        "cat missing.xml",
    ],
)
def test_a_wrong_command_is_found(wrong, workplace, served):
    with pytest.raises(AssertionError):
        run(wrong, workplace, served, ROOT / "README.md")


def test_enough_commands_are_found():
    assert len(WITH_BLOCKS) >= 12
    assert sum(len(blocks(page.read_text(), "sh")) for page in PAGES) >= 25
    assert sum(len(inline_commands(page.read_text())) for page in PAGES) >= 50
