"""Whether a task means what its spec says: checks of a spec together with a sample of its rows.

`validate` knows whether a spec is well formed; only rows can tell that the passage is missing, that
an option was dropped or that two labels are swapped. One module per group of checks, each a
function from a `TaskSample` and the `Thresholds` to diagnoses; `examine.py` has their list.
"""
