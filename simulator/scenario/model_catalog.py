"""The catalogue of models: one YAML file each, its name the file's."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from hwprofiles.names import nearest
from hwprofiles.problems import show
from hwprofiles.record_file import read_located
from simulator.errors import InputError, Problem
from simulator.scenario.model import ModelSpec
from simulator.scenario.rules import model_problems

MODELS: Final = Path(__file__).parent / "models"


def model_names() -> tuple[str, ...]:
    """Names of the catalogue's models, sorted."""
    return tuple(sorted(path.stem for path in MODELS.glob("*.yaml")))


def load_model(name: str) -> ModelSpec:
    """A model of the catalogue. Raises InputError: unknown, or its file is wrong."""
    if name not in model_names():
        raise InputError(f"no model of the name {show(name)}{nearest(name, model_names())}")
    shown = f"models/{name}.yaml"
    model, document = read_located(MODELS / f"{name}.yaml", ModelSpec, shown, InputError)
    problems = [
        Problem(f"{shown}:{document.line(tuple(field.split('.')))}", field, text)
        for field, text in model_problems(model)
    ]
    if problems:
        raise InputError(problems)
    return model
