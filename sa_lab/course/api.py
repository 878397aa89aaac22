"""The library's functions as pages: docstrings with their shapes and the source, by pdoc, for the site."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pdoc

from sa_lab.course.finder import Section

MODULES = tuple(
    f"sa_lab.{name}"
    for name in (
        "losses", "model", "samplers", "transforms", "baselines", "backbones", "weights", "config", "schema",
        "intervals", "data", "training.objective", "training.steps", "training.fit", "evaluation.embedding",
        "evaluation.protocols", "evaluation.metrics", "evaluation.rerank", "evaluation.search", "evaluation.reports",
        "evaluation.paired", "evaluation.reference", "analysis", "plots", "runs", "experiment", "study", "ranking",
        "exporting", "reporting.tables", "reporting.comparison",
    )
)  # fmt: skip
"""What people use who write code with the library, in reading order."""
FOLDER = "api"


def write(out: Path) -> Path:
    """Write a page for each of `MODULES`, with an index that can be searched, into a folder of the site ``out``; they
    open offline."""
    pdoc.render.configure(docformat="google", footer_text="sa_lab", search=True, show_source=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pdoc wants to evaluate annotations that are for a type checker alone
        pdoc.pdoc(*MODULES, output_directory=out / FOLDER)
    return out / FOLDER / "index.html"


def address(name: str) -> str | None:
    """Where the site documents what has this name, if it does.

    >>> address("sa_lab.losses.sa_softmax_loss")
    'api/sa_lab/losses.html#sa_softmax_loss'
    """
    fitting = [module for module in MODULES if name == module or name.startswith(f"{module}.")]
    if not fitting:
        return None
    module = max(fitting, key=len)
    rest = name[len(module) + 1 :]
    held: Any = import_module(module)
    for part in rest.split(".") if rest else []:
        held = getattr(held, part, None)
    page = f"{FOLDER}/{module.replace('.', '/')}.html"
    if not rest or held is None:
        return None if held is None else page
    shown = getattr(held, "__qualname__", rest)  # a package shows what its modules hold as its own
    return f"{page}#{shown}" if hasattr(import_module(module), shown.partition(".")[0]) else None


def sections() -> Iterator[Section]:
    """The functions and classes that the pages describe, for the search of the site."""
    for module in MODULES:
        for name, held in vars(import_module(module)).items():
            at = None if name.startswith("_") or not callable(held) else address(f"{module}.{name}")
            if at and getattr(held, "__module__", "").startswith(module):
                yield Section(name, module, at, " ".join((inspect.getdoc(held) or "").split()))


def linked(html: str) -> str:
    """A page whose names of the library's functions, written as code, lead to them."""

    def link(found: re.Match[str]) -> str:
        at = address(found[1])
        return f'<a href="{at}">{found[0]}</a>' if at else found[0]

    return re.sub(r"<code>(sa_lab(?:\.\w+)+)</code>", link, html)
