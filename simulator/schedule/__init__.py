"""Order of actions of every pipeline rank. Knows no seconds, no model, no hardware."""

from simulator.schedule import schedules as _schedules  # noqa: F401  registers the family's members
from simulator.schedule.action import Action, Kind, Schedule
from simulator.schedule.bubble import PUBLISHED_BUBBLES, ChunkSeconds, bubble_seconds
from simulator.schedule.check import check_schedule, dry_run, schedule_problems
from simulator.schedule.family import (
    SCHEDULES,
    ScheduleRule,
    build_schedule,
    micro_batch_problem,
    moved_problem,
    next_valid_micro_batches,
    rank_problem,
    split_problem,
    vpp_problem,
)
from simulator.schedule.measure import Measured, held_chunks, measure
from simulator.schedule.text import format_schedule, parse_action, parse_actions, schedule_document

__all__ = [
    "PUBLISHED_BUBBLES",
    "SCHEDULES",
    "Action",
    "ChunkSeconds",
    "Kind",
    "Measured",
    "Schedule",
    "ScheduleRule",
    "bubble_seconds",
    "build_schedule",
    "check_schedule",
    "dry_run",
    "format_schedule",
    "held_chunks",
    "measure",
    "micro_batch_problem",
    "moved_problem",
    "next_valid_micro_batches",
    "parse_action",
    "parse_actions",
    "rank_problem",
    "schedule_document",
    "schedule_problems",
    "split_problem",
    "vpp_problem",
]
