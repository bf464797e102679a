"""Demand as replicas and control really say it, over HTTP."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from desks import SECRETS
from federation import JOB
from watched import watched

from hansa.sidecar.scaler.sources import ControlSource, Demand, MetricsSource, samples
from hansa.sidecar.server_api import ServerApi

PAGE = """# HELP hansa_scoring_requests_total Requests.
# TYPE hansa_scoring_requests_total counter
hansa_scoring_requests_total{path="/score",code="200"} %d
hansa_scoring_requests_total{path="a } b # 7",code="422"} 3 1700000000000
hansa_scoring_in_flight 2
hansa_scoring_seconds_bucket{le="+Inf"} NaN
"""


class Replica:
    """One that answers GET /metrics."""

    def __init__(self, port: int = 0) -> None:
        self.count, self.page, self.status = 0, PAGE, 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                page = (outer.page.replace("%d", str(outer.count))).encode()
                self.send_response(outer.status if self.path == "/metrics" else 404)
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def end(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@contextmanager
def replicas() -> Iterator[tuple[Replica, Replica]]:
    """Two on neighbouring ports."""
    for _ in range(50):
        first = Replica()
        try:
            second = Replica(first.port + 1)
        except OSError:
            first.end()
            continue
        break
    try:
        yield first, second
    finally:
        first.end()
        second.end()


def test_a_page_is_summed_over_labels_and_what_is_no_number_is_left_out() -> None:
    found = samples(PAGE.replace("%d", "7"))
    assert found["hansa_scoring_requests_total"] == 10.0
    assert found["hansa_scoring_in_flight"] == 2.0
    assert "hansa_scoring_seconds_bucket" not in found
    assert samples("") == samples('\n{}\nname\nname{a="b"}\n{x} y\n') == {}


def test_samples_with_a_label_that_is_not_wanted_are_left_out() -> None:
    page = 'n{path="/v1/score",code="200"} 5\nn{path="other",code="404"} 7\nother 1\n'
    assert samples(page, 'path="other"') == {"n": 5.0, "other": 1.0}


def test_a_replica_that_nobody_asked_yet_is_one_with_no_requests() -> None:
    now = [0.0]
    with replicas() as (first, second):
        source = MetricsSource(
            f"http://127.0.0.1:{first.port}/metrics",
            ports=2,
            requests="hansa_scoring_requests_total",
            in_flight="hansa_scoring_in_flight",
            now=lambda: now[0],
        )
        first.page = second.page = "hansa_scoring_in_flight 0\n"
        assert source.read() == Demand(None, 0.0)
        now[0], first.page = 60.0, PAGE
        first.count = 17
        assert source.read() == Demand(20.0, 2.0)


def test_requests_of_all_replicas_are_a_rate_a_minute() -> None:
    now = [100.0]
    with replicas() as (first, second):
        source = MetricsSource(
            f"http://127.0.0.1:{first.port}/metrics",
            ports=3,
            requests="hansa_scoring_requests_total",
            in_flight="hansa_scoring_in_flight",
            now=lambda: now[0],
        )
        assert source.read() == Demand(None, 4.0)
        first.count, second.count, now[0] = 100, 50, 130.0
        assert source.read() == Demand(300.0, 4.0)
        # One is begun anew: its counter fell.
        first.count, second.count, now[0] = 7, 50, 190.0
        assert source.read() == Demand(10.0, 4.0)
        # One does not answer for a while: what it counted meanwhile is counted once, as the rate that it was.
        second.status, now[0] = 500, 250.0
        assert source.read() == Demand(0.0, 2.0)
        second.status, first.count, second.count, now[0] = 200, 27, 80, 310.0
        assert source.read() == Demand(20.0 + 15.0, 4.0)


def test_places_are_forgotten_once_nobody_answered_there_for_ten_minutes() -> None:
    now = [0.0]
    with replicas() as (first, second):
        source = MetricsSource(
            f"http://127.0.0.1:{first.port}/metrics",
            ports=2,
            requests="hansa_scoring_requests_total",
            in_flight="hansa_scoring_in_flight",
            now=lambda: now[0],
        )
        source.read()
        second.status = 500
        for now[0] in (60.0, 600.0):
            source.read()
            assert len(source._counted) == 2
        now[0] = 660.0
        source.read()
        assert [port for _, port in source._counted] == [first.port]
        # While none answers at all nothing is forgotten: their counters would be taken for new ones.
        first.status, now[0] = 500, 1400.0
        assert source.read().demand is None
        first.status, first.count, now[0] = 200, 26, 1440.0
        assert source.read() == Demand(2.0, 2.0)


def test_no_replica_that_answers_is_no_demand_known() -> None:
    with replicas() as (first, _):
        place = f"http://127.0.0.1:{first.port}"
        names = {"requests": "hansa_scoring_requests_total", "in_flight": "hansa_scoring_in_flight"}
        assert "no replica answers" in MetricsSource(f"{place}/other", **names).read().problem
        first.page = "something_else 1\n"
        assert (
            "counts hansa_scoring_requests_total" in MetricsSource(f"{place}/metrics", **names).read().problem
        )
    gone = MetricsSource("http://127.0.0.1:1/metrics", **names).read()
    assert (gone.demand, "no replica answers" in gone.problem) == (None, True)
    unknown = MetricsSource("http://no-such-host.invalid:80/metrics", **names).read()
    assert unknown.demand is None


def test_jobs_that_wait_and_run_are_counted_by_control(tmp_path: Path) -> None:
    with watched(tmp_path) as job:
        source = ControlSource(ServerApi(job.url, SECRETS["write"]))
        assert source.read() == Demand(1.0, 0.0)
        job.desk.store.jobs.want(JOB, "pause", "operator")
        assert source.read() == Demand(0.0, 0.0)
        job.journal.set_status("paused")
        job.desk.store.jobs.want(JOB, "run", "operator")
        assert source.read() == Demand(1.0, 1.0)


def test_control_that_is_away_or_refuses_is_no_demand_known(tmp_path: Path) -> None:
    away = ControlSource(ServerApi("http://127.0.0.1:1", "x", timeout_s=0.5)).read()
    assert (away.demand, "does not answer" in away.problem) == (None, True)
    with watched(tmp_path) as job:
        refused = ControlSource(ServerApi(job.url, "x" * 30)).read()
        assert (refused.demand, "token" in refused.problem) == (None, True)

    class Odd:
        def queue(self) -> dict[str, object]:
            return {"waiting": "many"}

    odd = ControlSource(Odd()).read()
    assert odd == Demand(None, problem="control answered something else than its queue")


@pytest.mark.parametrize("value", ["1e3", "1000.0", "+1000"])
def test_numbers_are_read_as_prometheus_writes_them(value: str) -> None:
    assert samples(f"name {value}\n")["name"] == 1000.0
