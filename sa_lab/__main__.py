"""``python -m sa_lab``: the command line."""

from sa_lab.cli import main

main()
