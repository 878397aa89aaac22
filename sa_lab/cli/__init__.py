"""The commands; each imports what it uses when it runs, so that help and usage errors come at once."""

from __future__ import annotations

import io
import re
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, cast

import tyro

from sa_lab import __version__
from sa_lab.cli import presets
from sa_lab.cli.batches import course, study, sweep
from sa_lab.cli.keeping import runs
from sa_lab.cli.looking import rank
from sa_lab.cli.making import app, export, generate, prepare, train
from sa_lab.cli.reading import lab, notebooks
from sa_lab.cli.scoring import compare, embed, evaluate, report
from sa_lab.dials import plain_lines
from sa_lab.disk import Refusal


def _one_line(command: str) -> AbstractContextManager[object]:
    """Within this, what is wrong with a command is told in one line; tyro frames it, and calls dials by other names.

    tyro promises nothing of what this uses; without it the frame comes back.
    """

    def told(event: Any) -> None:
        if type(event).__name__ == "InstantiationFailure" and ", expected" in event.message:
            raise Refusal(event.message)
        if fault := _fault(event, command):
            print(plain_lines(f"sa-lab: {fault}; {command} --help lists what there is"), file=sys.stderr)
            sys.exit(2)

    try:
        hook = import_module("tyro._errors").on_parse_error
    except (ImportError, AttributeError):
        return nullcontext()
    return cast(AbstractContextManager[object], hook(told))


def _fault(event: Any, command: str) -> str:
    """What a command lacks, or has too much, by tyro's event; nothing for an event that is not known here."""
    kind, argument = type(event).__name__, getattr(event, "argument", None)
    name = argument.display_name() if argument else "the command"
    if kind == "UnrecognizedArgs":
        words, first = " ".join(event.tokens), event.tokens[0]
        if Path(first, "config.json").is_file():
            return f"{first} is a second run, expected one"
        return f"{words} is unrecognized by {command}"
    if kind == "MissingArgs":
        return f"{', '.join(one.arg.display_name() for one in event.missing_arguments)} is missing in {command}"
    if kind == "MissingSubcommand":
        known = ", ".join(event.subcommand_spec.parser_from_name)
        return f"{event.found_token or 'nothing'} is given, expected one of {known}"
    if kind == "InvalidChoice":
        return f"{name} is {event.value}, expected one of {', '.join(event.choices)}"
    if kind == "BadValue":
        return f"{name} has too few values, or one that it does not take"
    if kind == "InstantiationFailure":
        message = re.sub(r"\[/?\w+\]", "", " ".join(event.message.split()))
        if wanted := re.match(r"no type matching (.+?) could be instantiated from \[(.*?)\]\.", message):
            return f"{name} is {wanted[2]}, expected {wanted[1]}"
        return f"{name}: {message}"
    return ""


def main(arguments: list[str] | None = None) -> None:
    """Entry point; what a user can mend is told in one line, without a traceback."""
    making = (prepare, generate, train, embed, export, study, sweep, course)
    commands = (*making, evaluate, rank, report, compare, app, lab, notebooks, runs)
    given = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that knows no ± shows a question mark
    if given == ["--version"]:
        print(f"sa-lab {__version__}")
        return
    try:
        for command in (train, study, sweep):
            command.__annotations__["config"] = presets.annotation(given if command.__name__ in given[:1] else ())
        named = given[:1] if given and given[0] in {command.__name__ for command in commands} else []
        with _one_line(" ".join(["sa-lab", *named])):
            tyro.extras.subcommand_cli_from_dict(
                {command.__name__: command for command in commands}, args=given, prog="sa-lab",
                config=(tyro.conf.CascadeSubcommandArgs,),
                description="SA-Softmax for visible-infrared person re-identification. sa-lab --version prints the "
                "version.",
            )  # fmt: skip
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] in ("sa_lab", ""):
            raise
        sys.exit(f"sa-lab: {error.name} is not installed, which this command needs: pip install 'sa-lab[notebooks]'")
    except (ValueError, OSError, Refusal) as error:
        told = str(error)
        if isinstance(error, OSError) and error.filename and error.strerror:  # not "[Errno 2] ..."
            told = f"{error.filename}: {error.strerror}"
        sys.exit(plain_lines(f"sa-lab: {told}"))
    except KeyboardInterrupt as stop:
        sys.exit(f"sa-lab: {str(stop) or f'{given[0]} was stopped; the same command goes on with what is finished'}")
