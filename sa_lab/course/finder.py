"""The search of the site: an index of what its pages say, for elasticlunr, which comes with pdoc."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from html import unescape
from importlib import resources
from typing import NamedTuple

BOX = (
    '<div class="finder" role="search"><input type="search" placeholder="Search" autocomplete="off" '
    'aria-label="Search chapters, guides and functions"><ol class="found" aria-live="polite"></ol></div>'
)
"""Its place in a page; `site.js` does the rest."""
_HIDDEN = re.compile(r"<(script|style|noscript|svg|nav)\b.*?</\1>", re.S)
_HEADING = re.compile(r"<h[123]\b([^>]*)>(.*?)</h[123]>", re.S)


class Section(NamedTuple):
    """A piece of a page, as it is found.

    Attributes:
        title, page: of the section, and of the page that it is in.
        address: where it is.
        text: what it says.
    """

    title: str
    page: str
    address: str
    text: str


def script(pages: Mapping[str, str], functions: Iterable[Section] = ()) -> str:
    """JavaScript that holds the index; a page loads it when somebody searches.

    Args:
        pages: HTML by address.
        functions: of the library's own pages.
    """
    found = [section for address, page in pages.items() for section in sections(address, page)]
    rows = json.dumps([*found, *functions], ensure_ascii=False, separators=(",", ":")).replace("</", r"<\/")
    library = resources.files("pdoc") / "templates" / "resources" / "elasticlunr.min.js"
    return f"{library.read_text(encoding='utf-8')}\nfinder.hold({rows});\n"


def sections(address: str, page: str) -> Iterator[Section]:
    """The sections of a page that say something, each with the heading above it."""
    shown = _HIDDEN.sub(" ", page[page.find("<main") :])
    headings = list(_HEADING.finditer(shown))
    titles = [_words(heading[2]) for heading in headings]
    for heading, title, after in zip(headings, titles, [*headings[1:], None], strict=True):
        anchor = re.search(r'id="([^"]+)"', heading[1])
        text = _words(shown[heading.end() : after.start() if after else None])
        if text:
            yield Section(title, titles[0], f"{address}#{anchor[1]}" if anchor else address, text)


def _words(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())
