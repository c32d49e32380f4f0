"""Which columns of the source reach the inputs, the target, or only a filter; known without rows.

Each row operation says what it `needs` and which columns with which types it `leaves`. Asked with
every column's name in the place of its type, what it leaves shows what it did: a column that has
its own name as type is untouched, one that has another's is a copy of that, and any other was made
from what the operation needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from muppet_zoo.rows import Columns
from muppet_zoo.spec import TaskSpec

Paths = frozenset[str]


@dataclass(frozen=True, kw_only=True)
class Lineage:
    """Source columns by use; a column may have several, and one in none of them is unused."""

    inputs: Paths
    target: Paths
    filters: Paths

    def uses(self, column: str) -> bool:
        """Whether anything reads the source column."""
        return any(covers(path, column) for path in self.inputs | self.target | self.filters)

    def feeds_inputs(self, column: str) -> bool:
        """Whether the model gets to read something of the source column."""
        return any(covers(path, column) for path in self.inputs)

    def feeds_target(self, column: str) -> bool:
        """Whether the target is made from the source column."""
        return any(covers(path, column) for path in self.target)


def covers(path: str, column: str) -> bool:
    """Whether `path` is the column, a field inside it, or something that it is inside of."""
    return path == column or path.startswith(f"{column}.") or column.startswith(f"{path}.")


def lineage_of(spec: TaskSpec) -> Lineage:
    """Which source columns the inputs and the target of `spec` are made from, or filters read."""
    made_from: dict[str, Paths] = {}
    columns: Columns = {path: path for path in spec.source.columns}
    filters: set[str] = set()
    for operation in spec.rows:
        sources = _sources(operation.needs(), made_from)
        left = operation.leaves(columns)
        if left == columns:  # it writes nothing: what it reads decides which rows are kept
            filters |= sources
        made_from |= {
            path: _sources([kind], made_from) if kind in columns else sources
            for path, kind in left.items()
            if columns.get(path) != kind
        }
        columns = {path: path for path in left}
    return Lineage(
        inputs=_sources(spec.inputs.columns(), made_from),
        target=_sources(spec.head.columns(), made_from),
        filters=frozenset(filters),
    )


def _sources(paths: Iterable[str], made_from: dict[str, Paths]) -> Paths:
    found: set[str] = set()
    for path in paths:
        behind = [made for made in made_from if covers(made, path)]
        found |= frozenset().union(*(made_from[made] for made in behind)) if behind else {path}
    return frozenset(found)
