"""Trains a small model of DeepSeek-V3's kind on text that Python ships, three times: with the bias rule, without balancing, and
with the bias rule in FP8.

    python -m hwprofiles.calibration.train [--json] [--steps N] [--seed N] [--device cpu|cuda] [--threads N]

settings  the model's sizes and the training's
text      the bytes that it reads
loop      steps of one run and what is recorded of them
figures   what three runs say, compared
cli       options, progress, table and JSON

Imports nothing here, so that a missing torch is an answer of one line.
"""

from __future__ import annotations
