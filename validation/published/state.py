"""A row as a scenario that moesim accepts, or why not. A row that cannot be stated never stops the others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from simulator import load_scenario
from simulator.errors import InputError, Problem
from simulator.scenario.recipes import RECIPES
from simulator.scenario.scenario import Scenario
from validation.published.batch import batch, precision
from validation.published.draft import Assumed, Draft
from validation.published.labels import labels
from validation.published.layout import layout
from validation.published.machine import cluster
from validation.published.model import model
from validation.published.overlapped import refined
from validation.published.problems import bad_values
from validation.published.row import Row
from validation.published.software import release_of
from validation.published.sources import filled_in

PARTS: tuple[Callable[[Row, Draft], None], ...] = (precision, cluster, model, layout, batch)


OWN_KEYS: Final = "set"
"""Column of the keys that a row gives by their own names."""
COLUMN_OF: Final[Mapping[str, str]] = {
    "cluster.node": "gpu", "cluster.num_gpus": "n_gpus", "training.seq_len": "seq", "training.global_batch_size": "gbs",
    "training.micro_batch_size": "mbs", "precision.recipe": "precision", "model.num_layers": "layers",
    "model.hidden_size": "hidden", "model.vocab_size": "vocab", "model.dense_ffn.intermediate_size": "ffn",
    "model.attention.num_heads": "heads", "model.attention.num_kv_heads": "kv_heads", "model.attention.head_dim": "head_dim",
    "model.moe.num_routed_experts": "experts", "model.moe.top_k": "topk", "model.moe.num_shared_experts": "shared_experts",
    "model.moe.expert_intermediate_size": "moe_ffn",
    **{f"parallel.{name}": name for name in ("tp", "pp", "vpp", "ep", "etp", "cp", "schedule")},
}  # fmt: skip
"""Key of a scenario → the column that gives it."""

WHOLE: Final[Mapping[str, str]] = {
    "lora": "LoRA",
    "packed sequences": "documents of packed sequences not given",
}
"""Word of the notes → the reason why the whole row cannot be stated."""


@dataclass(frozen=True)
class Statement:
    """What became of a row. source: the scenario's mapping; scenario: loaded, None where it cannot be stated.

    missing: reasons of draft.REASONS → detail; assumed: keys that the row does not give; read: columns that the row leaves
    empty and its source gives; beside: what was run and no key can say; framework: name@release, None where no release fits;
    labels: what the row's notes say of dispatcher, graph_scope and overlap, with its framework and release; problems: values
    that cannot be.
    """

    case_id: str
    precision: str
    source: Mapping[str, Any]
    scenario: Scenario | None
    missing: Mapping[str, str]
    assumed: tuple[Assumed, ...] = ()
    beside: tuple[str, ...] = ()
    framework: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)
    read: tuple[Assumed, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def dispatcher(self) -> str:
        """Of the notes; "" where they do not say."""
        return self.labels.get("dispatcher", "")

    @property
    def cuda_graph(self) -> str:
        """Scope of CUDA graphs of the notes; "" where they do not say."""
        return self.labels.get("graph_scope", "")

    @property
    def overlap(self) -> str:
        """Of the notes and the schedule; "" where they do not say."""
        return self.labels.get("overlap", "")

    @property
    def completeness(self) -> str:
        """ "complete", or how many keys neither the row nor its framework's release says: "3 assumed"."""
        count = sum(not each.is_sourced for each in self.assumed)
        return f"{count} assumed" if count else "complete"


def state(row: Row) -> Statement:
    """The row's statement; a scenario that the loader refuses counts as not statable, with the loader's words.

    Whatever goes wrong inside becomes the row's reason "cannot be read".
    """
    try:
        return _state(row)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Statement(
            row.text("case_id"), row.text("precision"), {}, None, {"cannot be read": text}, problems=(text,)
        )


def _state(given: Row) -> Statement:
    row, read = filled_in(given)
    draft = Draft(release=release_of(row))
    if row.is_repeated:
        draft.lack(
            "case_id is there twice", f"{row.text('case_id')!r}; the first stands; give every row a name of its own"
        )
    problems = bad_values(row)
    if problems:
        draft.lack("bad value", "; ".join(problems))
    for words, reason in WHOLE.items():
        if row.says(words):
            draft.lack(reason)
    for part in PARTS:
        part(row, draft)
    if draft.release is not None:
        draft.scenario = refined(draft.scenario, draft.release)
    scenario = None if draft.missing else _load(row, draft)
    if scenario is not None:
        draft.assumed += _defaults(scenario, draft, {each.partition("=")[0].strip() for each in own_keys(row)})
        draft.beside += [entry.key for entry in scenario.framework_switches if not entry.is_modelled]
    if draft.missing:
        scenario = None
    named = {"framework": row.text("framework")} | ({"release": draft.release} if draft.release else {})
    return Statement(
        row.text("case_id"), row.text("precision"), draft.scenario, scenario, dict(draft.missing), tuple(draft.assumed),
        tuple(draft.beside), draft.release, {**named, **labels(row)}, read, problems,
    )  # fmt: skip


def own_keys(row: Row) -> list[str]:
    """ "key=value" of the column `set`: keys of a scenario that no column is of, separated by semicolons."""
    return [each.strip() for each in row.text(OWN_KEYS).split(";") if each.strip()]


def _in_columns(problem: Problem) -> str:
    """A problem of the scenario by the column that the key is of, else by the key."""
    is_own = problem.where.startswith("overrides")
    field = f"{OWN_KEYS}: {problem.field}" if is_own else COLUMN_OF.get(problem.field, problem.field)
    return f"{field}: {problem.message}".replace(": :", ":") if field else problem.message


def _load(row: Row, draft: Draft) -> Scenario | None:
    source = {
        "schema_version": 1,
        "name": row.text("case_id"),
        **draft.scenario,
        "framework": draft.release,
        "draws": 1,
    }
    try:
        scenario = load_scenario(source, own_keys(row))
    except InputError as error:
        text = "; ".join(map(_in_columns, error.problems))
        is_recompute = all(problem.field.startswith("recompute.modules") for problem in error.problems)
        draft.lack("recompute modules not named" if is_recompute else "refused by moesim", text)
        return None
    return scenario


WATCHED: Final[tuple[tuple[str, Callable[[Scenario], bool]], ...]] = (
    ("parallel.zero_stage", lambda plan: plan.cluster.num_gpus > 1),
    ("parallel.sequence_parallel", lambda plan: plan.parallel.tp > 1),
    ("parallel.etp", lambda plan: plan.parallel.tp > 1 and plan.model.moe is not None),
    ("parallel.overlap.tp", lambda plan: plan.parallel.tp > 1),
    ("parallel.cp_comm", lambda plan: plan.parallel.cp > 1),
    ("kernels.autograd", lambda plan: True),
    ("kernels.attention", lambda plan: True),
    ("kernels.grouped_gemm", lambda plan: plan.model.moe is not None),
    ("kernels.casts", lambda plan: plan.model.moe is not None or RECIPES[plan.precision.recipe].is_quantised),
    ("data_parallel.param_gather.overlap", lambda plan: plan.cluster.num_gpus > 1 and plan.parallel.zero_stage > 0),
    ("data_parallel.grad_reduce.overlap", lambda plan: plan.cluster.num_gpus > 1),
    ("data_parallel.grad_reduce.dtype", lambda plan: plan.cluster.num_gpus > 1),
    ("training.optimizer", lambda plan: True),
    ("moe.balance", lambda plan: plan.model.moe is not None),
    ("moe.dispatcher", lambda plan: plan.model.moe is not None and plan.parallel.ep > 1),
    ("recompute.granularity", lambda plan: True),
    ("head.cross_entropy", lambda plan: True),
)
"""Keys that move a step and that rows leave out, and where they have a meaning."""


def _defaults(scenario: Scenario, draft: Draft, stated: Collection[str]) -> Iterator[Assumed]:
    """What the framework's release says, with its source, and watched keys that nobody says. stated: keys of the row's own."""
    said = {entry.key: entry for entry in scenario.framework_switches if entry.is_modelled}
    for key, entry in said.items():
        yield Assumed(key, entry.value, f"{draft.release}: {entry.source}", is_sourced=True)
    why = "not stated, and not by the release's file" if draft.release else "not stated; software unknown"
    for key, matters in WATCHED:
        if key not in said and key not in stated and not draft.gives(key) and matters(scenario):
            yield Assumed(key, _value(scenario, key), why)
    if draft.release is None:
        yield Assumed("framework", None, "software unknown: no release of `moesim list frameworks` fits the row")


def _value(scenario: Scenario, key: str) -> Any:
    node: Any = scenario
    for name in key.split("."):
        node = getattr(node, name)
    return node
