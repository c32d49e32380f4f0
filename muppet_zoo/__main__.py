"""`python -m muppet_zoo`, the same as the command `muppet-zoo`."""

from muppet_zoo.cli import main

main()
