"""The Markdown pages beside the chapters: guides (glossary, lesson plans) and solutions."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("guides", "solutions")


@dataclass(frozen=True)
class Guide:
    """A page: its address in the site, its title (the first line), and its Markdown."""

    address: str
    title: str
    source: str


def read(folder: Path) -> list[Guide]:
    """The pages beside the chapters in ``folder``, in the order of their names.

    Raises:
        ValueError: a page does not begin with a title.
    """
    guides = []
    for path in (path for name in FOLDERS for path in sorted((folder / name).glob("*.md"))):
        source = path.read_text(encoding="utf-8")
        title = re.match(r"# (.+)", source)
        if not title:
            raise ValueError(f"{path} begins with {source[:40]!r}, expected a title: '# '")
        guides.append(Guide(address(f"{path.parent.name}/{path.name}"), title[1], source))
    return guides


def address(link: str) -> str:
    """Where a link's target is in the site: all pages lie in one folder.

    >>> address("../solutions/01_derivation.md#open-tasks")
    'solutions-01_derivation.html#open-tasks'
    >>> address("02_data_and_sampler.ipynb")
    '02_data_and_sampler.html'
    """
    found = re.fullmatch(r"(?![a-z]+:)(?:\.\./)*([^#]*)\.(?:ipynb|md)(#.*)?", link)
    return f"{found[1].replace('/', '-')}.html{found[2] or ''}" if found else link
