"""Property tests draw the same cases in every run; `pytest --hypothesis-profile=explore` draws fresh ones."""

from hypothesis import settings

settings.register_profile("fixed", derandomize=True, database=None, deadline=None, print_blob=False)
settings.register_profile("explore", deadline=None)
settings.load_profile("fixed")
