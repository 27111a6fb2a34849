"""Parses the Dockerfile and builds its first stage without a container engine."""

import os
import re
import shlex
import shutil
import subprocess

from places import DEPLOY, ROOT

CONTAINER = DEPLOY / "container"
DOCKERFILE = CONTAINER / "Dockerfile"


def instructions():
    """The Dockerfile's instructions, with continued lines joined and without comments."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.startswith("#")]
    text = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def stages():
    """The instructions of each stage, FROM first."""
    found = []
    for instruction in instructions():
        if instruction[0] == "FROM":
            found.append([])
        found[-1].append(instruction)
    return found


def build_image():
    """The folder that the last stage copies, built with the commands of the first stage."""
    work = ROOT / "target/container"
    image, source = work / "image", work / "src"
    for folder in (image, source):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    variables = dict(os.environ, CARGO_TARGET_DIR=str(work / "target"))
    build, _ = stages()
    for word, rest in build:
        if word == "COPY":
            *files, _ = shlex.split(rest)
            for name in files:
                copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
                copy(ROOT / name, source / name)
        elif word == "ENV":
            variables |= dict(each.split("=", 1) for each in shlex.split(rest))
        elif word == "RUN":
            # The builder's cache mounts; here, the folder itself is used.
            rest = re.sub(r"--mount=\S+\s+", "", rest)
            command = rest.replace(" /image/", f" {image}/").replace('"target/', f'"{work}/target/')
            subprocess.run(["bash", "-o", "pipefail", "-c", command], cwd=source, env=variables, check=True)
    return image
