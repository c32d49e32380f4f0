"""`python -m muppet_zoo.worker ARGUMENTS`: the command line as a child of a study."""

from muppet_zoo.cli import main
from muppet_zoo.parent_watch import stop_with_parent

if __name__ == "__main__":
    stop_with_parent()
    main()
