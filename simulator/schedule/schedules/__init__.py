"""One file a schedule, each registers itself in simulator.schedule.family.SCHEDULES; a new file is imported here."""

from simulator.schedule.schedules import dualpipe, gpipe, one_f_one_b

__all__ = ["dualpipe", "gpipe", "one_f_one_b"]
