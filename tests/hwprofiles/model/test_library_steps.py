"""Steps of Hugging Face transformers: what is measured, and what is said where the library is not there."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hwprofiles.calibration import library_steps
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.library_models import MODELS, LibraryModel, rehearsal

has_library = importlib.util.find_spec("transformers") is not None


def test_names_are_unique_and_the_first_is_the_traced_model() -> None:
    names = [model.name for model in MODELS]
    assert len(set(names)) == len(names)
    first = MODELS[0]
    assert (first.batch, first.seq, first.config["model_type"], first.judged) == (2, 4096, "qwen3_moe", False)
    assert sum(model.judged for model in MODELS) >= 6


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_rehearsals_have_the_keys_of_their_models(model: LibraryModel) -> None:
    small = rehearsal(model)
    assert small.config.keys() == model.config.keys() and small.config["model_type"] == model.config["model_type"]
    assert (small.attention, small.checkpointing) == (model.attention, model.checkpointing)
    assert small.config["hidden_size"] < model.config["hidden_size"]


def test_without_the_library_one_line_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr("importlib.import_module", refuse)
    with pytest.raises(CalibrationError, match="needs Hugging Face transformers"):
        library_steps._library()
    assert library_steps.main(["--small", "-o", str(tmp_path)]) == 2
    assert "pip install transformers" in capsys.readouterr().err


def test_a_step_that_does_not_fit_is_a_row_that_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> dict[str, Any]:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    class Library:
        __version__ = "0"

    monkeypatch.setattr(library_steps, "measure", full)
    row = library_steps._measured(rehearsal(MODELS[0]), Library(), torch.device("cpu"))
    assert "out of memory" in row["error"] and row["model"] == MODELS[0].name and "step_s" not in row


@pytest.mark.skipif(not has_library, reason="needs Hugging Face transformers")
def test_a_rehearsal_writes_a_file_a_model(tmp_path: Path) -> None:
    assert library_steps.main(["--small", "-o", str(tmp_path), "--only", "llama-1b", "mixtral-2b"]) == 0
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("*.json")}
    assert found.keys() == {"llama-1b", "mixtral-2b"}
    assert all(row["step_s"] > 0 and row["operators"] for row in found.values())
