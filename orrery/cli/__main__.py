"""`python -m orrery.cli`, for starters of processes that take a module (torchrun)."""

from orrery.cli import main

main()
