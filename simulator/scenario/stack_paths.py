"""A stack that a scenario names by the path of its folder: opened, and its name in this process put in the path's place."""

from __future__ import annotations

from pathlib import PurePath

from hwprofiles.problems import show
from hwprofiles.record_file import CatalogError
from hwprofiles.stack_folders import OpenedFolder, given_folders, looks_like_folder, open_folder, opened
from hwprofiles.yaml_file import KeyPath
from simulator.scenario.draft import Draft
from simulator.scenario.nested import find, put

_STACK: KeyPath = ("stack",)
_GPU: KeyPath = ("cluster", "node", "gpu")


def open_stack(draft: Draft) -> None:
    """Open the folder where `stack` is a path, which starts from the file that says so; what is wrong with it is refused.

    Where no file may be read, a path stands for a folder of that name that the process was started with.
    """
    stack = draft.data.get("stack")
    if not isinstance(stack, str) or not (looks_like_folder(stack) or stack in given_folders()):
        return
    given = None if draft.reads_files and looks_like_folder(stack) else given_folders().get(PurePath(stack).name)
    if given is None and not draft.reads_files:
        known = ", or one of the folders that it was started with" if given_folders() else ""
        draft.refuse(_STACK, f"names a folder ({show(stack)}); here only a stack of the catalogue can be named{known}")
        del draft.data["stack"]
        return
    try:
        folder = opened(given or "") or open_folder(draft.folder(_STACK) / stack)
    except CatalogError as error:
        for problem in error.problems:
            draft.refuse(_STACK, str(problem))
        del draft.data["stack"]
        return
    draft.data["stack"] = folder.stack.name
    _name_gpu(draft, folder)


def _name_gpu(draft: Draft, folder: OpenedFolder) -> None:
    """Let an inline node of the folder's own GPU name it as this process does."""
    if folder.has_own_gpu and find(draft.data, _GPU) == folder.gpu_name:
        put(draft.data, _GPU, folder.stack.gpu)
