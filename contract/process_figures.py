"""What every process says of itself: memory, processor time, open files, since when, and which version."""

from __future__ import annotations

from collections.abc import Callable

from hansa import __version__

from .exposition import Family, Figure, Shown, one

RESIDENT = Family("process_resident_memory_bytes", "gauge", "Memory held.")
_VIRTUAL = Family("process_virtual_memory_bytes", "gauge", "Address space reserved.")
_CPU = Family("process_cpu_seconds_total", "counter", "Processor time used, by user and system.")
_FILES = Family("process_open_fds", "gauge", "Open files and sockets.")
_MOST_FILES = Family("process_max_fds", "gauge", "Open files and sockets that it may have.")
_THREADS = Family("process_threads", "gauge", "Threads that run.")
_STARTED = Family("process_start_time_seconds", "gauge", "When it started, seconds since the epoch.")
_BUILD = Family(
    "hansa_build_info", "gauge", "Which process of which version this is.", ("process", "version")
)


def resident_bytes() -> int:
    """Memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def process_figures(process: str) -> Callable[[], list[Shown]]:
    """A source of one process's own figures.

    Parameters
    ----------
    process : its role: control, agent, node ...
    """

    def look() -> list[Shown]:
        import resource

        import psutil

        own = psutil.Process()
        with own.oneshot():
            memory, cpu = own.memory_info(), own.cpu_times()
            return [
                one(RESIDENT, memory.rss),
                one(_VIRTUAL, memory.vms),
                one(_CPU, cpu.user + cpu.system),
                one(_FILES, own.num_fds()),
                one(_MOST_FILES, resource.getrlimit(resource.RLIMIT_NOFILE)[0]),
                one(_THREADS, own.num_threads()),
                one(_STARTED, own.create_time()),
                Figure(_BUILD, {(process, __version__): 1.0}),
            ]

    return look
