"""Uploaded texts that are too long for a link: kept in the server's memory by their hash, the oldest leave first."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from typing import Final

MAX_TEXTS: Final = 50
MAX_CHARACTERS: Final = 20_000_000


class Keep:
    """Texts by hash, bounded by their number and their length."""

    def __init__(self, max_texts: int = MAX_TEXTS, max_characters: int = MAX_CHARACTERS) -> None:
        self.max_texts, self.max_characters = max_texts, max_characters
        self.texts: OrderedDict[str, str] = OrderedDict()
        self.lock = threading.Lock()

    def put(self, text: str) -> str:
        """Keep a text; its hash."""
        key = hashlib.sha256(text.encode()).hexdigest()[:32]
        with self.lock:
            self.texts[key] = text
            self.texts.move_to_end(key)
            while len(self.texts) > self.max_texts or sum(map(len, self.texts.values())) > self.max_characters:
                self.texts.popitem(last=False)
        return key

    def get(self, key: str) -> str | None:
        """The text of a hash; None where it was never there or is gone."""
        with self.lock:
            if key in self.texts:
                self.texts.move_to_end(key)
            return self.texts.get(key)


TEXTS: Final = Keep()
"""Of this server."""
