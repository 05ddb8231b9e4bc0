"""DeepSeek-V3's architecture, and its relatives, in torch at any size: what the microbenchmarks time and the counting is
checked against. Written to be read: a file a module, shapes in every docstring, a plain slow reference beside each fast path.

Shape letters: b sequences, s tokens of one, t = b s tokens, h hidden size, e experts, k experts of a token, r rows (token,
expert), n heads, d head size, f width of a feed-forward network, v vocabulary.
"""

from __future__ import annotations

from hwprofiles.calibration.extra import require_torch

require_torch()
