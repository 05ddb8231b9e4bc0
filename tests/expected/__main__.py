"""`python -m tests.expected`: writes the committed figures of the presets again and prints what changed.

A change of a figure needs its reason in the commit that changes it.
"""

from __future__ import annotations

import json

from tests.expected.figures import FILE, PRESETS, figures_of


def main() -> None:
    """Writes figures.json."""
    before = json.loads(FILE.read_text()) if FILE.exists() else {}
    after = {preset: figures_of(preset) for preset in PRESETS}
    for preset, figures in after.items():
        known = before.get(preset, {})
        for name in sorted({*known, *figures}):
            if known.get(name) != figures.get(name):
                print(f"{preset}: {name}: {known.get(name)} -> {figures.get(name)}")
    FILE.write_text(json.dumps(after, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    main()
