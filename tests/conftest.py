"""Property tests draw the same cases in every run; `pytest --hypothesis-profile=explore` draws fresh ones."""

import gc
import os

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, database=None, deadline=None, print_blob=False)
settings.register_profile("explore", deadline=None)
settings.load_profile("fixed")

# A process a core runs the tests: two threads of torch or of numpy in each, or in what it starts, wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Eleven thousand tests and the catalogue are a million objects that stay: looking through them again and again for garbage
# would take a third of the collection and some of every test.
gc.disable()


def pytest_collection_finish() -> None:
    """Garbage is looked for again, among what is made from here on."""
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    gc.enable()
