"""The release: checks its workflows with their tools, and runs each step that can run on this machine."""

import gzip
import hashlib
import os
import re
import stat
import subprocess
import sys
import tarfile

import pytest
import yaml

from charts import CHART
from places import DEPLOY, REPOSITORY, ROOT, VERSION, passes, run, tool

WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
BUILD = DEPLOY / "release/build"


def workflow(name):
    found = yaml.safe_load((ROOT / f".github/workflows/{name}.yml").read_text())
    # YAML 1.1 reads `on` as true.
    return found | {"on": found.pop(True)}


def jobs():
    for path in WORKFLOWS:
        for name, job in workflow(path.stem)["jobs"].items():
            yield f"{path.stem}.{name}", job


def steps():
    for name, job in jobs():
        for step in job["steps"]:
            yield name, step


def beside_this_python():
    """An environment in which actionlint finds shellcheck."""
    return os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}


def test_actionlint_finds_no_problems():
    assert passes("actionlint", "-oneline", *WORKFLOWS, env=beside_this_python()) == ""


@pytest.mark.parametrize("right, wrong", [
    ("needs: [check, files, tag-image, chart]", "needs: [check, file]"),
    ("${{ needs.check.outputs.version }}", "${{ needs.check.outputs.versoin }}"),
    ("contents: read", "content: read"),
    ('for digest in digests/*; do', "for digest in $(ls digests); do"),
], ids=["needs", "output", "permission", "shell"])
def test_actionlint_would_find_a_mistake(folder, right, wrong):
    text = (ROOT / ".github/workflows/release.yml").read_text()
    assert right in text
    (folder / "release.yml").write_text(text.replace(right, wrong))
    assert run("actionlint", folder / "release.yml", env=beside_this_python()).returncode == 1


def test_zizmor_finds_no_problems():
    passes("zizmor", "--offline", "--no-progress", "--strict-collection", *WORKFLOWS)


def test_shellcheck_finds_no_problems_in_ci_and_release_scripts():
    passes("shellcheck", BUILD, ROOT / ".ci/run", ROOT / "tests/run", DEPLOY / "debian/build")


def test_actions_are_pinned_by_their_commit():
    pinned = set()
    for path in WORKFLOWS:
        for line in re.findall(r"uses: (.*)", path.read_text()):
            assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line), line
            pinned.add(line)
    # One commit per action.
    assert len({line.split("@")[0] for line in pinned}) == len(pinned) > 5


def test_a_job_has_only_the_permissions_it_needs():
    for path in WORKFLOWS:
        assert workflow(path.stem)["permissions"] == {}, path
    may_write = {
        "release.image": {"packages"},
        "release.tag-image": {"packages"},
        "release.chart": {"packages"},
        "release.release": {"contents", "attestations", "id-token"},
    }
    for name, job in jobs():
        writes = {each for each, level in job["permissions"].items() if level == "write"}
        assert writes == may_write.get(name, set()), name
        assert job["timeout-minutes"] <= 120, name
    for name, step in steps():
        if step.get("uses", "").startswith("actions/checkout@"):
            assert step["with"]["persist-credentials"] is False, name


def test_only_a_tag_publishes():
    release = workflow("release")
    assert release["on"]["push"] == {"tags": ["v*"]}
    only = "github.ref_type == 'tag'"
    for name in ("tag-image", "release"):
        assert release["jobs"][name]["if"] == only
    (push,) = [step for step in release["jobs"]["chart"]["steps"] if "helm push" in step.get("run", "")]
    assert push["if"] == only
    (image,) = [step for step in release["jobs"]["image"]["steps"] if "build-push-action" in step.get("uses", "")]
    assert release["env"]["PUSH"] == "${{ github.ref_type == 'tag' }}"
    assert image["with"]["outputs"].endswith(",push=${{ env.PUSH }}")


def test_the_workflow_builds_the_image_that_everything_uses():
    release = workflow("release")
    assert release["env"]["IMAGE"] == REPOSITORY
    image = release["jobs"]["image"]
    (build,) = [step["with"] for step in image["steps"] if "build-push-action" in step.get("uses", "")]
    assert build["sbom"] is True and build["provenance"] == "mode=max"
    assert (ROOT / build["file"]).is_file()
    arguments = [line.split("=")[0] for line in build["build-args"].splitlines()]
    assert arguments == ["VERSION", "REVISION", "SOURCE", "CREATED"]
    assert {each["platform"] for each in image["strategy"]["matrix"]["include"]} == {"linux/amd64", "linux/arm64"}
    pages = (DEPLOY / "release/README.md").read_text(), (CHART / "README.md").read_text()
    assert all(f"{release['env']['CHARTS']}/s3cors" in page for page in pages)
    for repository in (REPOSITORY, release["env"]["CHARTS"].removeprefix("oci://")):
        assert repository.startswith("ghcr.io/s3cors/")
    assert 'repository = "https://github.com/s3cors/s3cors"' in (ROOT / "Cargo.toml").read_text()


def test_ci_runs_every_part_of_the_tests():
    (parts,) = re.findall(r"^PARTS=\((.*)\)$", (ROOT / "tests/run").read_text(), re.MULTILINE)
    assert workflow("ci")["jobs"]["tests"]["strategy"]["matrix"]["part"] == parts.split()
    assert any(step.get("run") == ".ci/run checks" for _, step in steps())


def test_both_build_with_the_compiler_and_the_packager_of_this_repository():
    (base,) = re.findall(r"^FROM (\S+) AS build$", (DEPLOY / "container/Dockerfile").read_text(), re.MULTILINE)
    containers = {job["container"] for _, job in jobs() if "container" in job}
    assert containers == {base}
    (packager,) = re.findall(r"cargo-deb@\S+", (ROOT / "tests/run").read_text())
    assert any(packager in step.get("run", "") for _, step in steps())


def test_every_build_step_calls_an_existing_part():
    called = {part for _, step in steps() for part in re.findall(r"deploy/release/build (\w+)", step.get("run", ""))}
    assert called == {"check", "notes", "binary", "deb", "chart", "checksums"}
    done = run(BUILD, "other")
    assert done.returncode == 1 and all(part in done.stdout for part in called)


CHANGELOG = """# Changelog

## [Unreleased]

### Added

- Later.

## [{version}] - 2026-12-01

### Added

- A [link](https://example.com), and `## code`.

### Fixed

- The last line.

## [0.0.9] - 2026-01-01

- Earlier.

[{version}]: https://example.com/compare
"""


@pytest.fixture
def changelog(folder):
    path = folder / "CHANGELOG.md"
    path.write_text(CHANGELOG.format(version=VERSION))
    return os.environ | {"CHANGELOG": str(path)}


def test_the_notes_are_the_versions_section_of_the_changelog(changelog):
    notes = passes(BUILD, "notes", VERSION, env=changelog)
    assert notes.startswith("### Added\n\n- A [link]") and notes.endswith("- The last line.\n")
    assert "Later" not in notes and "Earlier" not in notes and "compare" not in notes
    assert passes(BUILD, "notes", env=changelog) == notes
    assert passes(BUILD, "notes", "0.0.9", env=changelog) == "- Earlier.\n"
    done = run(BUILD, "notes", "9.9.9", env=changelog)
    assert done.returncode == 1 and "has no section [9.9.9]" in done.stdout


def test_the_real_changelog_has_notes_once_its_version_is_set(folder):
    text = (ROOT / "CHANGELOG.md").read_text()
    if f"## [{VERSION}]" not in text:
        text = text.replace("## [Unreleased]", f"## [{VERSION}]", 1)
    (folder / "CHANGELOG.md").write_text(text)
    notes = passes(BUILD, "notes", VERSION, env=os.environ | {"CHANGELOG": str(folder / "CHANGELOG.md")})
    assert "- " in notes and "## [" not in notes


def test_a_tag_names_the_version_of_everything(changelog):
    assert passes(BUILD, "check", f"v{VERSION}", env=changelog) == f"{VERSION}\n"
    for tag in (VERSION, "v9.9.9", f"v{VERSION}-rc1"):
        done = run(BUILD, "check", tag, env=changelog)
        assert done.returncode == 1 and "the version in Cargo.toml" in done.stdout, tag
    done = run(BUILD, "check", f"v{VERSION}", env=changelog | {"CHANGELOG": os.devnull})
    assert done.returncode == 1 and "has no section" in done.stdout


def test_the_chart_is_packaged(folder):
    """With Helm's library, because the command only exists on GitHub's machines."""
    helm = folder / "helm"
    helm.write_text(f"""#!{sys.executable}
import sys
import helm_python
assert sys.argv[1:3] == ["package", "--destination"]
print(helm_python.package(sys.argv[4], destination=sys.argv[3]))
""")
    helm.chmod(0o755)
    passes(BUILD, "chart", folder / "out", env=os.environ | {"HELM": str(helm)})
    with tarfile.open(folder / f"out/s3cors-{VERSION}.tgz") as archive:
        names = archive.getnames()
    assert "s3cors/Chart.yaml" in names and "s3cors/values.schema.json" in names


def test_the_binary_is_static_and_packed_with_its_manual_the_same_each_time(image, folder):
    variables = os.environ | {"S3CORS_BIN": str(image / "s3cors"), "SOURCE_DATE_EPOCH": "1700000000"}
    out = [folder / each for each in ("one", "two")]
    for each in out:
        passes(BUILD, "binary", each, env=variables)
    (one,), (two,) = (list(each.iterdir()) for each in out)
    assert one.name == f"s3cors-{VERSION}-linux-{os.uname().machine}.tar.gz"
    assert one.read_bytes() == two.read_bytes()
    with tarfile.open(one) as archive:
        archive.extractall(folder, filter="data")
    home = folder / one.name.removesuffix(".tar.gz")
    assert passes(home / "s3cors", "--version") == f"s3cors {VERSION}\n"
    passes(home / "s3cors", "check", "--config", home / "s3cors.toml")
    for name in ("LICENSE", "README.md", "CHANGELOG.md", "man/s3cors.1", "completions/s3cors.bash"):
        assert (home / name).stat().st_size > 100, name
    assert gzip.decompress(one.read_bytes())[:6] == b"s3cors"


def test_a_binary_that_needs_libraries_or_another_version_is_refused(image, folder):
    dynamic = os.environ | {"S3CORS_BIN": tool("bash")}
    done = run(BUILD, "binary", folder, env=dynamic)
    assert done.returncode == 1 and "is not a static binary" in done.stdout
    other = folder / "other"
    other.write_text("#!/bin/sh\necho s3cors 9.9.9\n")
    other.chmod(other.stat().st_mode | stat.S_IXUSR)
    done = run(BUILD, "binary", folder, env=os.environ | {"S3CORS_BIN": str(other)})
    assert done.returncode == 1 and f"is not version {VERSION}" in done.stdout


def test_checksums_cover_exactly_the_released_files(folder):
    (folder / "a.tar.gz").write_bytes(b"a")
    (folder / "b c.deb").write_bytes(b"b")
    for _ in range(2):
        passes(BUILD, "checksums", folder)
        lines = (folder / "SHA256SUMS").read_text().splitlines()
        assert lines == [f"{hashlib.sha256(each[:1].encode()).hexdigest()}  {each}" for each in ("a.tar.gz", "b c.deb")]
    done = subprocess.run(["sha256sum", "--check", "--ignore-missing", "SHA256SUMS"], cwd=folder, check=False)
    assert done.returncode == 0


def test_the_guide_matches_the_workflow():
    guide = (DEPLOY / "release/README.md").read_text()
    for part in re.findall(r"deploy/release/build (\w+)", guide):
        assert re.search(rf"^{part}\(\)", BUILD.read_text(), re.MULTILINE), part
    assert f"v{VERSION}" in guide and "SHA256SUMS" in guide
