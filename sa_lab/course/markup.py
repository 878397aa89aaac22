"""Markdown with LaTeX formulas as HTML that needs no script."""

from __future__ import annotations

import re
from html import escape
from xml.etree import ElementTree

from latex2mathml.converter import convert
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

from sa_lab.course.guides import address

_PARTS = {"mfrac": 2, "msub": 2, "msup": 2, "mover": 2, "munder": 2, "msubsup": 3, "munderover": 3, "mroot": 2}
_ATTRIBUTES = {
    "accent", "close", "columnalign", "columnlines", "columnspacing", "depth", "display", "displaystyle", "fence",
    "form", "height", "largeop", "linethickness", "lspace", "mathcolor", "mathsize", "mathvariant", "maxsize",
    "minsize", "movablelimits", "notation", "open", "rowlines", "rowspacing", "rspace", "scriptlevel", "separator",
    "stretchy", "symmetric", "voffset", "width",
}  # fmt: skip
"""Of MathML, that the page keeps."""


class _Renderer(IPythonRenderer):
    """Formulas as MathML, headings with JupyterLab's anchors, links to pages in place of files."""

    def __init__(self, stem: str, trusted: bool) -> None:
        super().__init__(escape=not trusted, allow_harmful_protocols=False, exclude_anchor_links=True)
        self._stem, self._trusted = stem, trusted

    def inline_math(self, body: str) -> str:
        return mathml(body, self._stem)

    def block_math(self, body: str) -> str:
        return mathml(body, self._stem, "block")

    def latex_environment(self, name: str, body: str) -> str:
        return mathml(f"\\begin{{{name}}}{body}\\end{{{name}}}", self._stem, "block")

    def heading(self, text: str, level: int, **attributes: object) -> str:
        anchor = re.sub(r"\s+", "-", re.sub(r"<math.*?</math>|<[^>]+>", "", text).strip())
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def block_html(self, html: str) -> str:
        return self.inline_html(html) + "\n"

    def inline_html(self, html: str) -> str:
        if self._trusted:
            return html
        html = re.sub(r"<!--.*?-->", "", html, flags=re.S)
        return re.sub(r"&lt;(/?(?:details|summary))&gt;", r"<\1>", escape(html))  # a hint does no harm

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, address(url), title)

    def table(self, text: str) -> str:
        return f'<div class="wide"><table>{text}</table></div>\n'


def markdown(source: str, stem: str, trusted: bool = True) -> str:
    """HTML of what a cell of text holds.

    HTML between the lines stays what it is if the source is ``trusted``, and is shown as text otherwise, but for hints
    that unfold.

    Args:
        source: Markdown, formulas between dollars as in JupyterLab.
        stem: of its file, for what is said of a formula that cannot be converted.
        trusted: whether it is ours.

    Raises:
        ValueError: a formula that cannot be converted.
    """
    source = re.sub(r"^\|.*$", _without_bars, source, flags=re.M)
    return MarkdownWithMath(renderer=_Renderer(stem, trusted)).render(source)


def _without_bars(row: re.Match[str]) -> str:
    """A row of a table whose formulas have no bars, which would end a column there."""
    return re.sub(r"\$[^$]+\$", lambda formula: formula[0].replace("|", r"\vert "), row[0])


def mathml(formula: str, stem: str, display: str = "inline") -> str:
    """A LaTeX formula as MathML.

    Raises:
        ValueError: with the chapter and the formula, where a command is unknown or an argument is missing.
    """
    try:
        tree = ElementTree.fromstring(convert(formula.strip(), "", display))
    except Exception as error:  # the converter has a dozen exceptions of its own, without a common ancestor
        raise ValueError(f"formula {formula!r} in {stem} is not LaTeX that can be converted: {error!r}") from error
    for node in tree.iter():
        unknown = node.tag != "mo" and re.search(r"[\\{}&]", node.text or "")
        if unknown or len(node) != _PARTS.get(node.tag, len(node)):
            raise ValueError(f"formula {formula!r} in {stem} has a command or argument that cannot be converted")
        for name in set(node.attrib) - _ATTRIBUTES:  # a link, a style: what a formula does not need
            del node.attrib[name]
    for row in list(tree.iter("mrow")):
        for i in reversed(range(1, len(row))):  # a thin space between a name such as log and its neighbours
            beside = row[i - 1 : i + 1]
            names = [one for one in beside if one.tag == "mi" and len(one.text or "") > 1]
            if names and all(one.tag != "mo" for one in beside):
                row.insert(i, ElementTree.Element("mspace", width="0.167em"))
    return ElementTree.tostring(tree, encoding="unicode")
