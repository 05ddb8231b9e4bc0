"""Faults of stacks given by path, of what completes a measured stack, and of single kernels that are asked for."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

STACK_FOLDERS = Room(
    "stack_folders",
    ("tests/hwprofiles/test_stack_completion.py", "tests/scenario/test_stack_paths.py", "tests/cli/test_kernels.py",
     "tests/cli/test_compare.py"),
    (
        Fault(
            "hwprofiles/stack_completion.py",
            "return replace(stack, parameters={**taken, **own})",
            "return replace(stack, parameters={**own, **made.parameters})",
            "public constants replace those that were measured",
        ),
        Fault(
            "hwprofiles/stack_completion.py",
            "return any(each.covers(stem) for each in self._gemms)",
            "return stem in self._gemms",
            "a public pass of GEMMs stays beside a measured family of all passes",
        ),
        Fault(
            "hwprofiles/stack_completion.py",
            '"state": entry.state or made.provenance.state',
            '"state": entry.state',
            "a public constant takes the state of the chip from the measured stack",
        ),
        Fault(
            "hwprofiles/stack_choice.py",
            "transfer.build_stack(rest, stack.gpu, without)",
            "transfer.build_stack(rest, stack.gpu)",
            "what is left out completes a measured stack",
        ),
        Fault(
            "hwprofiles/stack_folders.py",
            'replace(stack, name="", gpu=gpu.name, provenance=provenance)',
            'replace(stack, name="", gpu=gpu.name, provenance=provenance, kernels=type(stack.kernels)())',
            "two folders of one name and other rows are one stack",
        ),
        Fault(
            "simulator/scenario/stack_paths.py",
            "draft.folder(_STACK) / stack",
            "stack",
            "a stack's path starts from the working directory, whichever file gives it",
        ),
        Fault(
            "hwprofiles/kernel_answers.py",
            "speed / solve(load, power.chip(power.tdp_w))",
            "1.0 / solve(load, power.chip(power.tdp_w)) ** 0.5",
            "a loop of one kernel draws more than the board's limit",
        ),
        Fault(
            "hwprofiles/kernel_list.py",
            "        elif column not in SHAPES and (near",
            "        elif column in SHAPES and (near",
            "a mistyped column is kept as one of the user's own",
        ),
        Fault(
            "simulator/scenario/calibrated.py",
            "scenario.device.power_cap_w is not None or",
            "scenario.device.power_cap_w is None or",
            "a limited board is told of where the scenario says its limit, and not where it is silent",
        ),
        Fault(
            "simulator/results/comparison.py",
            "for key in there if there[key] != here[key])",
            "for key in there if there[key] == here[key])",
            "calibrations are compared by what they agree on",
        ),
    ),
)  # fmt: skip
