"""The commands; each imports what it uses when it runs, so that help and usage errors come at once."""

from __future__ import annotations

import io
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
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


def _one_line() -> AbstractContextManager[object]:
    """Within this, a dial out of range is told in one line; tyro frames it, and calls it by a name of its own.

    tyro promises nothing of what this uses; without it the frame comes back.
    """

    def told(event: Any) -> None:
        if type(event).__name__ == "InstantiationFailure" and ", expected" in event.message:
            raise Refusal(event.message)

    try:
        hook = import_module("tyro._errors").on_parse_error
    except (ImportError, AttributeError):
        return nullcontext()
    return cast(AbstractContextManager[object], hook(told))


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
        with _one_line():
            tyro.extras.subcommand_cli_from_dict(
                {command.__name__: command for command in commands}, args=given, prog="sa-lab",
                config=(tyro.conf.CascadeSubcommandArgs,),
                description="SA-Softmax for visible-infrared person re-identification. --version alone tells the "
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
