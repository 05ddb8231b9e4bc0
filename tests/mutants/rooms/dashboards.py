"""Faults of the dashboard's frame: links, uploads, jobs, what strangers may name."""

from __future__ import annotations

from tests.mutants.fault import Fault, Room

DASHBOARDS = Room(
    "dashboards",
    tuple(f"tests/dashboards/test_{name}.py" for name in ("link", "pool", "state", "uploads", "server", "answering")),
    (
        Fault(
            "dashboards/source.py",
            "position_of=_position, reads_files=False",
            "position_of=_position, reads_files=True",
            "an upload names files of the server",
        ),
        Fault(
            "simulator/scenario/layers.py",
            "if extended not in preset_names():",
            'if extended == "":',
            "an upload extends any file",
        ),
        Fault(
            "dashboards/link.py",
            "text = reader.decompress(data, MAX_BYTES)",
            "text = reader.decompress(data)",
            "a packed text grows without bound",
        ),
        Fault(
            "dashboards/link.py",
            "elif len(texts) != 1:",
            "elif len(texts) < 1:",
            "the first of repeated keys is taken",
        ),
        Fault(
            "dashboards/link.py",
            "if len(packed) <= MAX_LINK_TEXT else",
            "if packed else",
            "a long upload makes a long link",
        ),
        Fault(
            "dashboards/keys.py",
            "if math.isfinite(value) and low <= value <= high else None",
            "if low <= value else None",
            "a number of a link has no upper bound",
        ),
        Fault(
            "dashboards/state.py",
            "if _STATE not in st.session_state or is_history_navigation():",
            "if True:",
            "a link that lags behind undoes a change",
        ),
        Fault(
            "dashboards/pool.py",
            'if job is None or job.state == "dropped":',
            "if job is None or job.is_over:",
            "an answer that is there is computed again",
        ),
        Fault(
            "dashboards/pool.py",
            "if not self._is_wanted(job):\n                self._drop(job)",
            "if not job.asked:\n                self._drop(job)",
            "what nobody waits for any more is done all the same",
        ),
        Fault(
            "dashboards/pool.py",
            "return any(run >= self.ended.get(session, 0) for session, run in job.asked.items())",
            "return any(run >= self.runs.get(session, 0) for session, run in job.asked.items())",
            "a page that is being made loses its jobs",
        ),
        Fault(
            "dashboards/pool.py",
            "may_refine = sum(slot.is_refining for slot in self.slots) < max(1, len(self.slots) - 1)",
            "may_refine = True",
            "refinements hold all workers",
        ),
        Fault(
            "dashboards/pool.py",
            "if len(ended) <= MAX_KEPT and total <= MAX_KEPT_BYTES:",
            "if len(ended) <= MAX_KEPT:",
            "large answers fill the server's memory",
        ),
        Fault(
            "dashboards/pool.py",
            "if report.leaves:",
            "if not report:",
            "a worker grows without end",
        ),
        Fault(
            "dashboards/worker.py",
            "os.dup2(sys.stderr.fileno(), sys.stdout.fileno())",
            "sys.stdout.flush()",
            "what the work prints breaks its answers",
        ),
        Fault(
            "dashboards/uploads.py",
            "if len(data) > MAX_RESULT_BYTES:",
            "if not data:",
            "an upload of any size is read",
        ),
        Fault(
            "dashboards/settings.py",
            '"client.showErrorDetails": "none",',
            '"client.showErrorDetails": "full",',
            "tracebacks reach the browser",
        ),
        Fault(
            "simulator/cli/dashboard.py",
            "if not 0 <= port <= LAST_PORT:",
            "if port < 0:",
            "a port that is none reaches the socket",
        ),
        Fault(
            "dashboards/widgets/answering.py",
            "return answer.is_over and not answer.is_whole and answer.failed is None",
            "return False",
            "a run that ended while the page was made is never shown",
        ),
        Fault(
            "dashboards/answers.py",
            "if all(job.is_over for job in late):",
            "if any(job.is_over for job in late):",
            "a first answer goes away when a part of the whole one is there",
        ),
        Fault(
            "dashboards/pool.py",
            "served = min(self.served",
            "served = max(self.served",
            "shared work waits for whoever was served last",
        ),
    ),
)
