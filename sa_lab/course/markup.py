"""Markdown, LaTeX formulas and code as HTML that needs no script."""

from __future__ import annotations

import re
from html import escape
from typing import Any
from xml.etree import ElementTree

import mistune
from latex2mathml.converter import convert
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_by_name
from pygments.util import ClassNotFound

from sa_lab.course.guides import address

_CODE_OR_FORMULA = re.compile(
    r"(?P<code>^(?P<fence>`{3,}|~{3,}).*?^(?P=fence)|(?<!`)(?P<tick>`+)(?!`).+?(?<!`)(?P=tick)(?!`)|\\\$)"
    r"|\$\$(?P<block>.+?)\$\$|\$(?P<inline>[^$\n]+(?:\n[^$\n]+)*)\$",
    re.S | re.M,
)
_PARTS = {"mfrac": 2, "msub": 2, "msup": 2, "mover": 2, "munder": 2, "msubsup": 3, "munderover": 3, "mroot": 2}
_ATTRIBUTES = {
    "accent", "close", "columnalign", "columnlines", "columnspacing", "depth", "display", "displaystyle", "fence",
    "form", "height", "largeop", "linethickness", "lspace", "mathcolor", "mathsize", "mathvariant", "maxsize",
    "minsize", "movablelimits", "notation", "open", "rowlines", "rowspacing", "rspace", "scriptlevel", "separator",
    "stretchy", "symmetric", "voffset", "width",
}  # fmt: skip
"""Of MathML, that the page keeps."""
_FORMATTER = HtmlFormatter(style="friendly", cssclass="code", nobackground=True)
_TERMINAL_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


def preformatted(text: str) -> str:
    """What a cell printed, without the colours of a terminal."""
    return f"<pre>{escape(_TERMINAL_COLOURS.sub('', text.rstrip()))}</pre>"


def highlighted(source: str, language: str) -> str:
    """Code with classes for its colours, see `colours`."""
    try:
        lexer = get_lexer_by_name(language)
    except ClassNotFound:
        return preformatted(source)
    return str(highlight(source, lexer, _FORMATTER))


def colours() -> str:
    """The style sheet of `highlighted`, in light and dark."""
    dark = HtmlFormatter(style="github-dark", nobackground=True).get_style_defs(".code")
    return f"{_FORMATTER.get_style_defs('.code')}\n@media (prefers-color-scheme: dark) {{\n{dark}\n}}\n"


class _Renderer(mistune.HTMLRenderer):
    """Headings with JupyterLab's anchors, coloured code, links to pages in place of files."""

    def heading(self, text: str, level: int, **attributes: Any) -> str:
        anchor = re.sub(r"\s+", "-", re.sub(r"<[^>]+>|\ue000\d+\ue001", "", text).strip())  # without its formulas
        return f'<h{level} id="{anchor}">{text}</h{level}>\n'

    def block_code(self, code: str, info: str | None = None) -> str:
        return highlighted(code, (info or "text").split()[0])

    def block_html(self, html: str) -> str:
        return self.inline_html(html) + "\n"

    def inline_html(self, html: str) -> str:
        if not self._escape:
            return html
        html = re.sub(r"<!--.*?-->", "", html, flags=re.S)
        return re.sub(r"&lt;(/?(?:details|summary))&gt;", r"<\1>", escape(html))  # a hint does no harm

    def link(self, text: str, url: str, title: str | None = None) -> str:
        return super().link(text, address(url), title)

    def table(self, text: str) -> str:
        return f'<div class="wide"><table>{text}</table></div>\n'


def markdown(source: str, stem: str, trusted: bool = True) -> str:
    """Formulas are taken out first and put back at the end, as JupyterLab does: Markdown leaves no mark on them.

    HTML between the lines stays what it is if the source is ``trusted``, and is shown as text otherwise, but for hints
    that unfold.
    """
    formulas: list[str] = []

    def keep(match: re.Match[str]) -> str:
        if match["code"]:
            return match[0]
        formulas.append(mathml(match["block"] or match["inline"], stem, "block" if match["block"] else "inline"))
        return f"\ue000{len(formulas) - 1}\ue001"

    render = mistune.create_markdown(renderer=_Renderer(escape=not trusted), plugins=["table", "strikethrough"])
    source = re.sub("[\ue000\ue001]", "\N{REPLACEMENT CHARACTER}", source)  # the marks of formulas
    text = str(render(_CODE_OR_FORMULA.sub(keep, source)))
    return re.sub("\ue000(\\d+)\ue001", lambda match: formulas[int(match[1])], text)


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
