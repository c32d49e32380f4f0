"""One linear map for all heads of a level: each head owns some of its rows.

R4F keeps every head from stretching distances: the weights of a head are divided by their largest
singular value, taken anew in each pass. Power iteration would be cheaper for large matrices, but
heads have few rows, and it would leave a state to be kept equal on all processes and to be saved.
Source: Aghajanyan et al. 2020, arXiv:2008.03156, section 2.2; Miyato et al. 2018,
arXiv:1802.05957, for the normalisation. As in the public code, biases and the dense layer in
front are left as they are.

Shapes: S rows of the map, H hidden, G heads of one size, K rows of each.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SMALLEST = 1e-12


class FusedLinear(nn.Linear):
    """A linear map of H to S numbers, whose rows belong to heads.

    heads: first row and number of rows of each. `spectral_norm` may be switched on later.
    """

    def __init__(self, hidden: int, num_rows: int, heads: Iterable[tuple[int, int]]) -> None:
        super().__init__(hidden, num_rows)
        self.spectral_norm = False
        by_size: dict[int, list[int]] = defaultdict(list)
        for start, size in sorted(set(heads)):
            by_size[size].append(start)
        # (G, K) rows of the heads of each size.
        self._rows = [
            torch.tensor(starts)[:, None] + torch.arange(size) for size, starts in by_size.items()
        ]

    def forward(self, states: Tensor) -> Tensor:
        """(…, H) → (…, S)."""
        return F.linear(states, self.effective(self.weight), self.bias)

    def effective(self, weight: Tensor) -> Tensor:
        """(S, H): `weight` as the map uses it."""
        if not self.spectral_norm:
            return weight
        largest = weight.new_ones(len(weight))
        for rows in self._rows:
            found = torch.linalg.matrix_norm(weight[rows], ord=2).clamp(min=_SMALLEST)  # (G,)
            largest = largest.index_copy(
                0, rows.flatten().to(weight.device), found.repeat_interleave(rows.shape[1])
            )
        return weight / largest[:, None]
