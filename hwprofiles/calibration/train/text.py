"""Real text, a byte a token: Python's language reference as `pydoc` shows it, which comes with the standard library.

Prose, grammar and examples, about 470 KB and 107 different bytes; releases of Python differ a little.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hwprofiles.calibration.errors import CalibrationError

NUM_BYTES = 256
"""Size of the vocabulary."""


def language_reference() -> bytes:
    """All topics in the order of their names. Raises CalibrationError where this Python came without them."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise CalibrationError(
            "this Python came without pydoc_data.topics, the text that is trained on; install the whole standard library"
        ) from None
    return "\n\n".join(topics[name] for name in sorted(topics)).encode()


class Windows:
    """Pieces of a text in random order; each piece once before any comes again.

    length: tokens of a piece, those that are only predicted included. The same seed gives the same pieces in the same order.
    """

    def __init__(self, text: bytes, length: int, seed: int) -> None:
        """Raises CalibrationError for a text that is shorter than one piece."""
        if len(text) < length:
            raise CalibrationError(f"the text has {len(text)} bytes; a sequence needs {length}")
        count = len(text) // length
        self._pieces = torch.frombuffer(bytearray(text[: count * length]), dtype=torch.uint8).view(count, length)
        self._random = torch.Generator().manual_seed(seed)
        self._left = torch.empty(0, dtype=torch.int64)

    def take(self, count: int) -> Tensor:
        """The next pieces: (count, length) int64."""
        while len(self._left) < count:
            self._left = torch.cat([self._left, torch.randperm(len(self._pieces), generator=self._random)])
        chosen, self._left = self._left[:count], self._left[count:]
        return self._pieces[chosen].to(torch.int64)
