"""Options of `python -m hwprofiles.calibration.several`. torch is imported when work begins."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from hwprofiles.calibration.all_gpus import CPU_PROCESSES
from hwprofiles.calibration.command import Parser, guarded
from hwprofiles.calibration.errors import CalibrationError
from hwprofiles.calibration.extra import require_torch
from hwprofiles.names import nearest
from hwprofiles.problem import Problem

COLUMNS: Final[Mapping[str, str]] = {
    "part": "messages, layers, models, pipelines, sharded",
    "name": "of the case in the part",
    "ranks": "GPUs, a process each",
    "way": "message, plain or paired micro-batches, order of a pipeline, whether parameters are gathered again",
    "wire": "format of dispatched rows", "load": "of the experts",
    "bytes": "of a rank's tensor", "sms": "that a message may take, 0: NCCL's own choice",
    "stages": "of a pipeline", "micro_batches": "of a step", "tokens": "of a rank's micro-batch",
    "seconds": "median of the calls, each of its slowest rank", "low": "shortest call", "high": "longest call",
    "forward_s": "of the slowest rank", "backward_s": "likewise",
    "product_s": "of products beside messages", "message_s": "of messages beyond these products",
    "alone_s": "of the products alone", "message_alone_s": "of as many messages alone",
    "peak_bytes": "most that torch had allocated on a rank", "least_peak_bytes": "on the rank that had least",
    "note": "why there is no time",
}  # fmt: skip
PARTS: Final = ("messages", "layers", "models", "pipelines", "sharded")
SILENCE_S: Final = 60.0
"""Without a row, behind which the processes of a part are ended; likewise a message."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit code: 0; 1 where a part was not measured to its end; 2 for input or a device that cannot be."""
    return guarded("several", partial(_main, arguments))


def _main(arguments: Sequence[str] | None) -> int:
    parser = Parser(
        prog="python -m hwprofiles.calibration.several",
        description="Measures all GPUs of a host together, a process each; on a CPU two processes rehearse it.",
    )
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="several.csv; a run goes on there")
    parser.add_argument("--part", action="append", default=[], help=f"of {', '.join(PARTS)}; may be repeated")
    parser.add_argument(
        "--schedule", action="append", default=[], type=Path, metavar="FILE.json",
        help="of `moesim schedule NAME --pp P --micro-batches M --json`, P as many as GPUs; may be repeated",
    )  # fmt: skip
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    given = parser.parse_args(arguments)
    wrong = [name for name in given.part if name not in PARTS]
    if wrong:
        raise CalibrationError([Problem("", "--part", f"{name!a} is unknown{nearest(name, PARTS)}") for name in wrong])
    documents = [_document(path) for path in given.schedule]
    require_torch("__main__")
    import torch

    world = torch.cuda.device_count() if given.device == "cuda" else CPU_PROCESSES
    if world < 2:
        raise CalibrationError(
            [Problem("", "--device", f"{world} GPUs; two at least are measured together, or try cpu")]
        )
    _fitting(documents, world)
    return _measure(given.out, tuple(given.part) or PARTS, documents, world, given.device)


def _measure(folder: Path, parts: Sequence[str], documents: Sequence[Any], world: int, device: str) -> int:
    import torch

    from hwprofiles.calibration.machine.ranks import run
    from hwprofiles.calibration.measuring import facts_of
    from hwprofiles.calibration.proof.store import Table, begin, finish
    from hwprofiles.calibration.several.works import rows_of

    begin(folder, {**facts_of(torch.device(device)), "size": f"{world} {device}"})
    table, failed = Table(folder / "several.csv", COLUMNS), 0
    for part in parts:
        done = frozenset(row["name"] for row in table.rows if row["part"] == part)
        more: dict[str, Any] = {"documents": documents} if part == "pipelines" else {}
        work = partial(rows_of, part=part, done=done, **more)

        def emit(row: Mapping[str, Any], part: str = part) -> None:
            table.add([{"part": part, "ranks": world, **row}])
            print(f"{part}: {row['name']}: {float(row['seconds']):.6f} s", file=sys.stderr, flush=True)

        left = run(work, world, device, emit, is_tiny=device != "cuda", silence_s=SILENCE_S)
        if left:
            failed += 1
            print(f"{part}: {left}", file=sys.stderr, flush=True)
    finish(folder, "one row a case", table, "all GPUs of a host, a process each; NVLink multicast is off", "several")
    return int(failed > 0)


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        text = (
            f"{str(path)!r} cannot be read ({error}); moesim schedule NAME --pp P --micro-batches M --json writes one"
        )
        raise CalibrationError([Problem("", "--schedule", text)]) from None


def _fitting(documents: Sequence[Any], world: int) -> None:
    """Raises CalibrationError for an order that cannot be, or of another number of ranks."""
    from hwprofiles.calibration.parallel.order import read_order

    for document in documents:
        order = read_order(document)
        if order.num_ranks != world:
            text = f"{order.name} has {order.num_ranks} ranks; {world} processes run it: write --pp {world}"
            raise CalibrationError([Problem("", "--schedule", text)])
