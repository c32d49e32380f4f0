"""A child process that ends with its parent, however that ends.

The parent holds a pipe to the child's standard input and writes nothing to it. When the parent is
gone, `kill -9` included, the pipe ends and the child stops, instead of going on to write into a
folder that the next try wants.
"""

from __future__ import annotations

import os
import threading


def stop_with_parent() -> None:
    """End this process when its standard input ends."""

    def watch() -> None:
        # Not sys.stdin: its lock, held by this thread, would abort the interpreter's shutdown.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
