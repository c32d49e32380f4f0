"""Examples → micro-batches that mix tasks under a token budget.

(the records; the planner follows)
"""

from __future__ import annotations

from muppet_zoo.task_data import Columns, TaskData

__all__ = ["Columns", "TaskData"]
