"""What every process says of itself: memory, processor time, open files, since when, and which version."""

from __future__ import annotations

from hansa import __version__

from .exposition import Family, Figure, Meter, Shown, Source, one

# Word for word as Prometheus' own processes say them: node_exporter takes a metric of another help for a mistake.
RESIDENT = Family("process_resident_memory_bytes", "gauge", "Resident memory size in bytes.")
_VIRTUAL = Family("process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes.")
_CPU = Family("process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds.")
_FILES = Family("process_open_fds", "gauge", "Number of open file descriptors.")
_MOST_FILES = Family("process_max_fds", "gauge", "Maximum number of open file descriptors.")
_THREADS = Family("process_threads", "gauge", "Threads that run.")
_STARTED = Family(
    "process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds."
)
_BUILD = Family(
    "hansa_build_info", "gauge", "Which process of which version this is.", ("process", "version")
)


def resident_bytes() -> int:
    """Memory that this process holds now."""
    import psutil

    return int(psutil.Process().memory_info().rss)


def process_figures(process: str) -> Source:
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


def process_meter(process: str, *sources: Source, member: str = "") -> Meter:
    """A meter of one process: its own figures and those of `sources`.

    Parameters
    ----------
    member : whose it is; empty at the consortium
    """
    owner = {"process": process, **({"member": member} if member else {})}
    return Meter([process_figures(process), *sources], owner)
