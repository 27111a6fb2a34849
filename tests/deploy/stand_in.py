#!/usr/bin/env python3
"""Stands in for a program in the documentation's commands: checks its arguments, and prints what an import reads.

It is called by the program's name. Exit code 1 and a line say which argument names nothing.
"""

import os
import pathlib
import re
import sys
import tomllib

ROOT = pathlib.Path(os.environ["S3CORS_ROOT"])
DATA = ROOT / "tests/data/import"
# What these print is read by `s3cors import -`.
OUTPUTS = {
    "aws s3api get-bucket-cors": "s3-get-bucket-cors.json",
    "az storage cors list": "azure-cli.json",
    "cdk synth": "s3-cloudformation.yaml",
    "gcloud storage buckets describe": "gcs-bucket.json",
    "kubectl get httproute": "httproute.yaml",
    "kubectl get ingress": "ingress.yaml",
    "mc admin config get minio api": "minio-admin-config.txt",
    "terraform show -json": "s3-terraform-show.json",
}
UNITS = {path.name for path in (ROOT / "deploy/systemd").glob("s3cors*")}


def fail(why):
    sys.exit(f"{pathlib.Path(sys.argv[0]).name}: {why}")


def files(arguments):
    """Arguments that name files of the repository, or of the reader's folder."""
    for argument in arguments:
        if re.match(r"\w+://|\w+/\w+:|S3CORS_", argument):
            continue
        # FILE, NAME=FILE, KEY=NAME=FILE and HOST:CONTAINER.
        words = argument.split("=")[-1] if "=" in argument else argument.partition(":")[0]
        for word in words.split(","):
            ours = re.match(r"(\./)?(config|deploy|tests|benches|src|root)/", word)
            file = re.fullmatch(r"[\w./-]+\.(toml|xml|ya?ml|json|deb)|[\w-]+/", word)
            if (ours or file) and "://" not in argument:
                yield word


def units(arguments):
    for argument in arguments:
        if argument.startswith("s3cors"):
            yield argument if "." in argument else f"{argument}.service"


def cargo(arguments):
    manifest = tomllib.loads((ROOT / "Cargo.toml").read_text())
    if "--features" in arguments:
        feature = arguments[arguments.index("--features") + 1]
        if feature not in manifest["features"]:
            fail(f"no feature {feature}")
    if arguments[0] not in ("bench", "build", "doc", "install", "nextest", "run"):
        fail(f"no such command: {arguments[0]}")
    if arguments[0] == "nextest":
        known = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.rs"))
        known += " ".join(path.stem for path in (ROOT / "tests").rglob("*.rs"))
        for test in arguments[2:]:
            if test not in known:
                fail(f"no test matches {test}")


def run(arguments):
    parts = re.search(r"^PARTS=\((.*)\)", (ROOT / "tests/run").read_text(), re.MULTILINE)[1].split()
    for part in arguments:
        if part not in parts:
            fail(f"no part {part}")


def fuzz(arguments):
    for target in arguments[1:]:
        if not (ROOT / f"tests/fuzz/fuzz_targets/{target}.rs").exists():
            fail(f"no target {target}")


def main():
    called = pathlib.Path(sys.argv[0])
    arguments = sys.argv[1:]
    at = str(called.parent / called.name)
    if "/" in at and not (ROOT / at).exists() and called.name not in ("pytest", "run") and called.parent.name != "tools":
        fail(f"{at} is not in the repository")
    for file in files(arguments):
        if not pathlib.Path(file).exists() and not (ROOT / file).exists():
            fail(f"{file} does not exist")
    if called.name in ("systemctl", "journalctl"):
        for unit in units(arguments):
            if unit not in UNITS:
                fail(f"no unit {unit}")
    if called.name == "cargo":
        cargo(arguments)
    if at.endswith("tests/run"):
        run(arguments)
    if at.endswith("fuzz/run"):
        fuzz(arguments)
    line = " ".join([called.name, *arguments])
    for begins, file in OUTPUTS.items():
        if line.startswith(begins):
            print((DATA / file).read_text(), end="")
            return
    if called.name == "git":
        print("0")
    if " get " in f" {line} " and called.name == "kubectl":
        print("s3cors")
    # What another program reads from it.
    if "-o yaml" in line:
        print("kind: ConfigMap")
    if not sys.stdin.isatty() and arguments[-1:] == ["-"]:
        sys.stdin.read()


main()
