"""What a dial may be: its type, its range, how an error words them; and texts that are safe to show."""

from __future__ import annotations

import re
from collections.abc import Sequence
from operator import index
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np


def plain(text: str) -> str:
    """One line without control characters, whatever a file or a folder is called."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in text)


def plain_lines(text: str) -> str:
    """The same for each line of a text."""
    return "\n".join(map(plain, text.split("\n")))


def markdown(text: object) -> str:
    """``text``, escaped for a cell of a Markdown table."""
    shown = plain(str(text)).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\|]|(?<=\])\()", r"\\\1", shown)  # no end of a cell, no link


def require(owner: str, **checks: tuple[Any, bool, str]) -> None:
    for name, (value, fits, expected) in checks.items():
        if not fits:
            raise ValueError(f"{owner}.{name} is {value!r}, expected {expected}")


def few(names: Sequence[str]) -> str:
    """The first three names, and how many there are besides."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def settle(owner: str, dials: Any) -> None:
    """Convert each dial to its plain type, so that equal values give one config.

    Raises:
        ValueError: a value that is not of that type.
    """
    for name, kind in get_type_hints(type(dials)).items():
        value = getattr(dials, name)
        try:
            object.__setattr__(dials, name, _plain(value, kind))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{owner}{name} is {value!r}, expected {_words(kind)}") from error


def _plain(value: Any, kind: Any) -> Any:
    """``value`` as the type ``kind``, if it is one; NumPy's numbers are numbers, a whole float is no integer."""
    choices = get_args(kind)
    if get_origin(kind) is Literal:
        if value not in choices:
            raise ValueError(value)
        return str(value)
    if get_origin(kind) is tuple:
        if isinstance(value, str):
            raise TypeError(value)
        return tuple(_plain(one, choices[0]) for one in value)
    if type(None) in choices:
        return None if value is None else _plain(value, choices[0])
    if kind is bool:
        if not isinstance(value, bool | np.bool_):
            raise TypeError(value)
        return bool(value)
    if kind is int or kind is float:
        if isinstance(value, bool | str) or not hasattr(value, "__index__" if kind is int else "__float__"):
            raise TypeError(value)
        return index(value) if kind is int else float(value)
    if not isinstance(value, kind):
        raise TypeError(value)
    return value


def parsed(text: str, kind: Any) -> Any:
    """A typed-in text as a value of that type: "none" where a dial may have no value, "1,2" for several; the text
    itself where it does not fit the type."""
    choices = get_args(kind)
    if get_origin(kind) is tuple:
        return tuple(parsed(word, choices[0]) for word in text.split(",") if word)
    if type(None) in choices:
        return None if text.lower() == "none" else parsed(text, choices[0])
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            return text
    return text


def file_word(text: str) -> str:
    """A text as a part of a file's name: everything but letters, digits, _ and . is a hyphen."""
    return re.sub(r"[^\w.]+", "-", text)


def _words(kind: Any) -> str:
    """What a dial of this type is."""
    choices = get_args(kind)
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(choices)
    if get_origin(kind) is tuple:
        return f"several, each {_words(choices[0])}"
    if type(None) in choices:
        return f"{_words(choices[0])}, or none"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}.get(
        kind, f"a {kind.__name__}"
    )


def positive(value: float | int, most: float | int = 1_000_000) -> tuple[Any, bool, str]:
    return value, 0 < value <= most, f"a number above 0, at most {most:,.0f}"


def whole_seed(value: int) -> tuple[Any, bool, str]:
    return value, 0 <= value < 2**63, "a whole number from 0 to 2^63 - 1"


def non_negative(value: float | int, most: float | int = 1_000_000) -> tuple[Any, bool, str]:
    return value, 0 <= value <= most, f"a number from 0 to {most:,.0f}"


def share(value: float | int) -> tuple[Any, bool, str]:
    return value, 0 <= value < 1, "a share in [0, 1)"
