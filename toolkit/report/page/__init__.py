"""A profile as one html page: pictures, tables, words, and the profile itself, in a file that needs nothing else.

    write_report(profile, "report.html")

A page loads nothing, from the network or from other files, and forbids the browser to: its content security policy
allows exactly the script and the style sheet that are in this package. Without JavaScript it lacks only the boxes that
say more of a mark, and the download; every figure's numbers stand in a table below it.
"""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from pathlib import Path
from string import Template

from ...atomic import write_file
from ...errors import ProfileError
from ...profiling.profile import Profile
from .facts import Facts
from .markup import data_script, joined
from .sections import all_sections, introduction

__all__ = ["page", "write_report"]

_PARTS = ("page.css", "page.js", "page.html")


def write_report(profile: Profile, path: str | Path) -> None:
    """Writes the page about a profile to the file `path`, whole or not at all.

    Raises ProfileError when it cannot be written.
    """
    text = page(profile)
    try:
        write_file(Path(path), text.encode())
    except OSError as error:
        raise ProfileError(f"the report cannot be written to {path}: {error.strerror or error}") from error


def page(profile: Profile) -> str:
    """The page as text."""
    facts = Facts(profile)
    parts = {
        "title": joined(f"{profile.name} on {profile.device['name']}"),
        "introduction": introduction(facts),
        "sections": all_sections(facts),
        "document": data_script(profile.document),
    }
    style, script, frame = ((files(__package__) / name).read_text("utf-8") for name in _PARTS)
    policy = f"default-src 'none'; style-src {_digest(style)}; script-src {_digest(script)}; base-uri 'none'"
    return Template(frame).substitute(parts, policy=policy, style=style, script=script)


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
