"""The commands: ``sa-lab prepare | generate | train | evaluate | embed | report | compare | study | course | app |
bench``."""

from __future__ import annotations

import sys

import tyro

from sa_lab.cli.making import bench, course, generate, prepare, study, train
from sa_lab.cli.scoring import compare, embed, evaluate, report
from sa_lab.cli.serving import app
from sa_lab.learner import NonFiniteLossError
from sa_lab.model import WeightsError
from sa_lab.processes import LostProcessError


def main(arguments: list[str] | None = None) -> None:
    """Entry point; what a user can mend is told in one line, without a traceback."""
    commands = (prepare, generate, train, evaluate, embed, report, compare, study, course, app, bench)
    try:
        tyro.extras.subcommand_cli_from_dict(
            {command.__name__: command for command in commands}, args=arguments, prog="sa-lab",
            config=(tyro.conf.CascadeSubcommandArgs,),
            description="SA-Softmax for visible-infrared person re-identification.",
        )  # fmt: skip
    except (ValueError, OSError, WeightsError, NonFiniteLossError, LostProcessError) as error:
        sys.exit(f"sa-lab: {error}")
    except KeyboardInterrupt as stop:
        sys.exit(f"sa-lab: {stop or 'interrupted'}")
