"""The assumptions' lock: hashes of the files that hold them, dated, the first entry written before anything was compared.

validation/assumptions.lock is a list of entries, oldest first; the last one must match the files. A changed file needs a new
entry with the mechanism and source that caused it (and a line in docs/accuracy.md). `python -m validation.lock REASON` adds
one; without a reason it says whether the lock is current.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
LOCK = Path(__file__).parent / "assumptions.lock"
LOCKED = (
    "simulator/scenario/assumptions.yaml",
    "simulator/scenario/presets/deepseek-v3.yaml",
    "simulator/scenario/layout.py",
    *(
        f"hwprofiles/stacks/{stack}/{name}"
        for stack in ("h800-deepseek-2024", "h800-notrace")
        for name in (
            "assumptions.yaml", "kernels.csv", "collectives.csv", "parameters.yaml", "network_parameters.yaml",
            "host_parameters.yaml",
        )
    ),
    "hwprofiles/stacks/transfer/power.yaml",
)  # fmt: skip


def current() -> dict[str, str]:
    """SHA-256 of every locked file, by path."""
    return {name: hashlib.sha256((ROOT / name).read_bytes()).hexdigest() for name in LOCKED}


def entries() -> list[Mapping[str, Any]]:
    """The lock's entries, oldest first."""
    found: list[Mapping[str, Any]] = json.loads(LOCK.read_text(encoding="utf-8")) if LOCK.exists() else []
    return found


def changed() -> list[str]:
    """Locked files that differ from the last entry."""
    last = entries()[-1]["files"] if entries() else {}
    return [name for name, digest in current().items() if last.get(name) != digest]


def main() -> int:
    """Adds an entry where a reason is given; else 0 where the lock is current, 1 where files changed."""
    if len(sys.argv) > 1:
        today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
        rows = [*entries(), {"date": today, "reason": " ".join(sys.argv[1:]), "files": current()}]
        LOCK.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
        return 0
    for name in changed():
        print(f"{name} changed since the last entry")
    return 1 if changed() else 0


if __name__ == "__main__":
    sys.exit(main())
