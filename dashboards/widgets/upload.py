"""Takes a file from the user: what it holds, or one message why it cannot be used."""

from __future__ import annotations

import streamlit as st

from dashboards.settings import MAX_UPLOAD_MB
from dashboards.uploads import SUFFIXES, Uploaded, read_upload
from dashboards.widgets.problems import show_problems
from simulator.errors import InputError, Problem


def upload(label: str, key: str, takes_unfit: bool = False) -> Uploaded | None:
    """A file chooser; what the chosen file holds, None where none is chosen or where it was refused (and said why).

    takes_unfit: as of `read_upload`.
    """
    file = st.file_uploader(label, type=list(SUFFIXES), key=key, max_upload_size=MAX_UPLOAD_MB)
    if file is None:
        return None
    kept = f"{key}-read"
    if st.session_state.get(kept, ("",))[0] != file.file_id:
        st.session_state[kept] = (file.file_id, _read(file.getvalue(), file.name, takes_unfit))
    found: Uploaded | tuple[Problem, ...] = st.session_state[kept][1]
    if isinstance(found, Uploaded):
        return found
    show_problems(found, title="The file cannot be used")
    return None


def _read(data: bytes, name: str, takes_unfit: bool) -> Uploaded | tuple[Problem, ...]:
    try:
        return read_upload(data, name, takes_unfit)
    except InputError as error:
        return error.problems
