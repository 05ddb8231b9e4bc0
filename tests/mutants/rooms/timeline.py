"""Faults of a step's timeline: its slices, levels of detail, words, picture and page."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

TIMELINE = Room(
    "timeline",
    (
        "tests/results/test_timeline_view.py",
        "tests/step/test_step_timeline.py",
        "tests/report/test_timeline_figure.py",
        "tests/laws/test_timelines.py",
        "tests/dashboards/test_timeline_page.py",
    ),
    (
        Fault(
            "simulator/step/timeline.py",
            "lane = int(ends.max(axis=0).argmax())",
            "lane = int(ends.max(axis=0).argmin())",
            "the pipeline that waits is shown, not the one that is waited for",
        ),
        Fault(
            "simulator/step/timeline.py",
            "is_inside = (begin >= begins[number]) & (begin < ends[number])",
            "is_inside = begin >= begins[number]",
            "bubble is told as exposed communication",
        ),
        Fault(
            "simulator/step/timeline.py",
            "    action[transfers] = senders\n",
            "",
            "a joint transfer carries the micro-batch of the action before it",
        ),
        Fault(
            "simulator/step/timeline.py",
            'held -= action.kind in ("B", "W", "FB")',
            'held -= action.kind in ("B", "I", "FB")',
            "activations are let go before their weight gradients",
        ),
        Fault(
            "simulator/results/timeline.py",
            "inside = np.minimum(self.end_s[here], end_s) - np.maximum(self.start_s[here], start_s)",
            "inside = self.end_s[here] - self.start_s[here]",
            "slices count whole that the window cuts",
        ),
        Fault(
            "simulator/results/timeline_view.py",
            " | ~is_thin[1:] | ~is_thin[:-1]",
            "",
            "a wide slice is merged with what begins beside it",
        ),
        Fault(
            "simulator/results/timeline_view.py",
            "if found.count <= max_bars:",
            "if columns <= max_bars:",
            "more bars than asked for",
        ),
        Fault(
            "simulator/results/timeline_view.py",
            "low[1:] = np.where(opens[1:], 0.0, low[:-1] + share[:-1])",
            "low[1:] = 0.0",
            "the bars of a column cover one another",
        ),
        Fault(
            "simulator/step/operators.py",
            "Kernel(what.name, op, shape.dtype, _sizes(shape), shape.bytes, cost.seconds, cost.basis, source)",
            'Kernel(what.name, op, shape.dtype, _sizes(shape), shape.bytes, cost.seconds, cost.basis, "")',
            "a kernel's source is lost",
        ),
        Fault(
            "simulator/assembly/unit_costs.py",
            "pieces.append(Piece(each, cost))",
            "pieces[:] = [Piece(each, cost)]",
            "an operator tells of its last kernel only",
        ),
        Fault(
            "simulator/report/timeline_words.py",
            'if kind.passes != "F" and b_stage >= 0:',
            "if b_stage >= 0:",
            "a pair's forward has the micro-batch of its backward",
        ),
        Fault(
            "simulator/report/figures/timeline.py",
            "range=[bottom + 0.2, -0.2]",
            "range=[-0.2, bottom + 0.2]",
            "rank 0 stands at the bottom",
        ),
        Fault(
            "dashboards/widgets/window.py",
            "first, last = sorted(float(side) * unit_s for side in sides)",
            "first, last = sorted(float(side) for side in sides)",
            "a box in milliseconds is taken for seconds",
        ),
        Fault(
            "dashboards/work/timeline.py",
            "if vpp_problem(schedule, parallel.vpp) is not None:",
            "if rule.fewest_chunks != parallel.vpp:",
            "interleaving in more chunks than two is compared in two",
        ),
    ),
)
