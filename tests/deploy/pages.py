"""The documentation: its pages, their headings, links and commands."""

import re

from places import DEPLOY, ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "config").rglob("*.md"), *DEPLOY.rglob("*.md")])

# The first word of what is a command where it stands in a sentence.
PROGRAMS = (
    "apt aws cargo certbot curl docker helm journalctl kubectl mc minio openssl promtool s3cors ssh systemctl"
    " tests/run tests/fuzz/run benches/instructions benches/peers/run benches/scale deploy/debian/build"
).split()


def name(page):
    return str(page.relative_to(ROOT))


def without_blocks(text):
    return re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)


def blocks(text, language):
    """The contents of fenced blocks, without the indentation of a list."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def anchors(text):
    """The anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", without_blocks(text), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading)) for heading in headings)
    return {heading.lower().replace(" ", "-") for heading in kept}


def links(text):
    """Where links and pictures lead: `[…](…)`, `[…][name]` and attributes of HTML."""
    text = re.sub(r"`[^`]*`", "", without_blocks(text))
    named = dict(re.findall(r"^\[([^\]]+)\]: (\S+)$", text, re.MULTILINE))
    found = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|srcset|href)="([^"]+)"', text)
    for used in re.findall(r"\]\[([^\]]+)\]", text):
        assert used in named, f"[{used}] is not defined"
    for defined in named:
        assert f"][{defined}]" in text, f"[{defined}] is not used"
    return found + list(named.values())


def inline_commands(text):
    """Code in sentences that is a whole command: a program with arguments."""
    spans = re.findall(r"(?<!`)`([^`]+)`(?!`)", without_blocks(text))
    spans = [" ".join(span.split()) for span in spans]
    return [span for span in spans if span.split()[0].removesuffix(":") in PROGRAMS and " " in span and "=" != span.split()[1]]
