"""What an executor shows Prometheus: tasks it took, ServerApps that run and their memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from hansa.contract.exposition import Family, Shown, one

TASKS = Family("hansa_executor_tasks_total", "counter", "Tasks that were taken.")
ENDED = Family("hansa_executor_ended_tasks_total", "counter", "ServerApps that ended, by exit.", ("exit",))
RUNNING = Family("hansa_executor_running_tasks", "gauge", "ServerApps that run.")
CAPACITY = Family("hansa_executor_capacity_tasks", "gauge", "ServerApps that may run at once.")
REACHED = Family("hansa_executor_superlink_up", "gauge", "1 while the SuperLink answers.")
MEMORY = Family(
    "hansa_serverapps_resident_memory_bytes", "gauge", "Memory that its ServerApps hold together."
)


def serverapp_memory(children: Callable[[], Iterable[int]]) -> Callable[[], list[Shown]]:
    """A source: memory of the processes that run now, those that end meanwhile left out."""

    def look() -> list[Shown]:
        import psutil

        total = 0
        for child in children():
            try:
                total += psutil.Process(child).memory_info().rss
            except psutil.NoSuchProcess:
                continue
        return [one(MEMORY, total)]

    return look
