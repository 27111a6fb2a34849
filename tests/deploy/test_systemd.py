"""The units, checked with systemd's own tool."""

import os
import re
import shutil

import pytest

from places import DEPLOY, passes, run

UNITS = DEPLOY / "systemd"
SERVICE = UNITS / "s3cors.service"
DROP_INS = sorted((UNITS / "examples").glob("*.conf"))


def install(folder, *drop_ins):
    """The units in a folder like after installation, with an existing program."""
    for unit in [*UNITS.glob("*.service"), *UNITS.glob("*.socket")]:
        text = unit.read_text().replace("/usr/bin/s3cors", shutil.which("true"))
        (folder / unit.name).write_text(text)
    for drop_in in drop_ins:
        target = folder / "s3cors.service.d"
        target.mkdir(exist_ok=True)
        # A type that systemd 252, whose tool this may be, does not know yet.
        text = drop_in.read_text().replace("Type=notify-reload", "Type=notify")
        (target / drop_in.name).write_text(text.replace("/usr/bin/s3cors", shutil.which("true")))
    return sorted([*folder.glob("*.service"), *folder.glob("*.socket")])


def directives(path):
    """The file's settings in order, without comments and sections."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line.split("=", 1) for line in lines if line and line[0] not in "#["]


def test_systemd_accepts_the_units_without_warnings(folder):
    said = passes("systemd-analyze", "--man=no", "verify", *install(folder))
    assert "s3cors" not in said, said


@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda path: path.stem)
def test_systemd_accepts_each_drop_in(folder, drop_in):
    units = install(folder, drop_in)
    said = passes("systemd-analyze", "--man=no", "verify", *units, cwd=folder)
    assert "s3cors" not in said, said


def test_a_misspelled_setting_would_be_noticed(folder):
    install(folder)
    service = folder / SERVICE.name
    service.write_text(service.read_text().replace("PrivateTmp=", "PrivateTemp="))
    assert "PrivateTemp" in run("systemd-analyze", "--man=no", "verify", service).stdout


def test_its_exposure_is_below_1_5():
    said = passes("systemd-analyze", "security", "--offline=yes", "--threshold=15", SERVICE)
    exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])
    assert exposure < 1.5, said


def test_a_stop_has_more_time_than_the_default_drain():
    settings = dict(directives(SERVICE))
    server = (UNITS.parents[1] / "src/server/settings.rs").read_text()
    defaults = server.split("impl Default for DrainSettings")[1]
    delay, deadline = map(int, re.findall(r"Duration::from_secs\((\d+)\)", defaults)[:2])
    assert int(settings["TimeoutStopSec"]) > delay + deadline


@pytest.mark.parametrize("path", [SERVICE, *DROP_INS], ids=lambda path: path.stem)
def test_a_reload_only_sends_the_signal(path):
    """ExecReload runs without the service's credentials (systemd/systemd#35227), so a check there fails where keys are credentials."""
    reloads = [value for key, value in directives(path) if key == "ExecReload"]
    assert reloads in ([], [""], ["/bin/kill -HUP $MAINPID"])
    assert reloads or path != SERVICE


def test_a_failed_start_is_retried_without_limit():
    settings = dict(directives(SERVICE))
    assert settings["StartLimitIntervalSec"] == "0"
    assert settings["Restart"] == "on-failure"
    # In [Unit]: in [Service] systemd ignores it.
    assert SERVICE.read_text().index("StartLimitIntervalSec") < SERVICE.read_text().index("[Service]")


def test_the_unit_that_a_handover_writes_is_valid(folder):
    """The service's text and the script's additions, with credentials and both sockets."""
    install(folder, *DROP_INS)
    text = (folder / SERVICE.name).read_text() + "".join(each.read_text() for each in (folder / "s3cors.service.d").iterdir())
    script = (UNITS / "handover").read_text().replace("/run/systemd/system", str(folder))
    calls = folder / "systemctl"
    calls.write_text(f"""#!/bin/sh
case "$1 $2" in
    "--quiet is-active") exit 0 ;;
    "cat s3cors.service") cat {folder}/whole ;;
    "start s3cors-handover.service") cp {folder}/s3cors-handover.service {folder}/copied.service ;;
esac
""")
    calls.chmod(0o755)
    (folder / "whole").write_text(text)
    (folder / "handover").write_text(script)
    passes("sh", folder / "handover", env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"})
    shutil.rmtree(folder / "s3cors.service.d")
    said = passes("systemd-analyze", "--man=no", "verify", folder / "copied.service", *folder.glob("*.socket"))
    assert "copied" not in said, said
    made = directives(folder / "copied.service")
    assert ["Environment", "S3CORS_TAKEOVER=true"] in made and ["User", "s3cors"] in made
    assert [value for key, value in made if key == "Sockets"][-2:] == ["s3cors.socket", "s3cors-https.socket"]
    assert ["BindReadOnlyPaths", "/run/credentials/s3cors-handover.service:/run/credentials/s3cors.service"] in made
    assert not (folder / "s3cors-handover.service").exists()


def test_the_script_of_a_handover_is_plain_sh(folder):
    passes("sh", "-n", UNITS / "handover")


def test_each_socket_has_the_name_that_its_comment_gives_the_config():
    sockets = sorted(UNITS.glob("*.socket"))
    assert len(sockets) == 2
    for socket in sockets:
        name = dict(directives(socket))["FileDescriptorName"]
        assert f'address = "systemd:{name}"' in socket.read_text(), socket.name


def test_the_readme_has_the_paths_of_credentials():
    drop_in = UNITS / "examples/tls-credentials.conf"
    names = [value.split(":")[0] for key, value in directives(drop_in) if key == "LoadCredential"]
    assert names == ["site.crt", "site.key"]
    https = (UNITS / "s3cors-https.socket").read_text()
    for name in names:
        assert f"/run/credentials/{SERVICE.name}/{name}" in https
