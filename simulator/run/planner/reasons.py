"""Why a layout takes what it takes, and why one loses against another: from the parts of its closed form, in words."""

from __future__ import annotations

from typing import Final

from hwprofiles.units import GIGA
from simulator.run.planner.closed_form import StepForm

LEAST_SHARE: Final = 0.08
"""Of a step: what is less binds nothing."""


def parts_of(form: StepForm) -> dict[str, float]:
    """Seconds of a step that are no kernels, by what holds it back."""
    return {
        "bubble": form.bubble_s,
        "exposed communication": form.exposed_s + form.transfers_s + form.each_s,
        "launch": form.host_s,
        "optimizer and its collectives": form.tail_s,
    }


def binds(form: StepForm) -> str:
    """What takes most of a step beside its kernels; these, where nothing else is much."""
    parts = parts_of(form)
    most = max(parts, key=lambda name: parts[name])
    return f"{most} ({parts[most] / form.step_s:.0%})" if parts[most] > LEAST_SHARE * form.step_s else "kernels"


def loses_by(
    form: StepForm, step_s: float, margin: float, chosen: StepForm, chosen_s: float, chosen_margin: float
) -> str:
    """What a layout has more of than the one that was chosen."""
    if step_s <= chosen_s:
        return f"within noise, and {(chosen_margin - margin) / GIGA:.1f} GB less memory left"
    mine, others = parts_of(form), parts_of(chosen)
    more = {name: mine[name] - others[name] for name in mine}
    kernels, of_chosen = (each.step_s - sum(parts_of(each).values()) for each in (form, chosen))
    more["kernels (recompute, smaller or less even GEMMs)"] = kernels - of_chosen
    most = max(more, key=lambda name: more[name])
    text = f"{step_s / chosen_s - 1.0:+.1%}"
    return f"{text}: {most} {more[most]:+.2f} s" if more[most] > 0 else text
