"""The page in a real browser: over a running federation, and over two hundred rounds of history."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import MISSING, SKIPPED, Page, browse
from desks import SECRETS, open_test_desk
from federation import make_plan
from history import fill
from journals import signed
from running import RunningFederation, running, until
from served import serve

from hansa.contract.decisions import Decision
from hansa.contract.jobs import AttemptResult, MetricValue, Participation
from hansa.contract.scaling import ScalingEntry
from hansa.server.control.desk import ControlDesk
from hansa.server.store import JobJournal
from hansa.sidecar.scaler.journal import Entry
from hansa.sidecar.scaling import Scaler, ServiceLimits, Signals
from hansa.strategies.apply import ModelState

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(SKIPPED, reason=MISSING)]

MEMBERS = ["a", "b", "c", "d"]
ROUNDS = "Number(document.body?.dataset.rounds ?? 0)"

# Milliseconds in which the page could not be scrolled or typed into, from its opening on.
WATCH_STALLS = """
window.stalls = [];
const keep = (list) => window.stalls.push(...list.getEntries().map((it) => it.duration));
new PerformanceObserver(keep).observe({ type: "longtask", buffered: true });
"""


# How far each dot of a chart is from the four sides of what is shown of it.
ROOM = r"""(() => {
  const svg = document.querySelector("#CARD svg.chart");
  const clip = svg.querySelector("clipPath rect").getBBox();
  const dots = [...svg.querySelector(".dots").getAttribute("d").matchAll(/M([\d.-]+) ([\d.-]+)/g)];
  const room = (x, y) => [x - clip.x, clip.x + clip.width - x, y - clip.y, clip.y + clip.height - y];
  return dots.map(([, x, y]) => room(Number(x), Number(y)));
})()"""


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Page]:
    with browse(tmp_path / "chromium") as found:
        found.look(width=1400)
        yield found


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningFederation]:
    with running(tmp_path_factory.mktemp("federation"), "--rounds", "200", "--set", "steps=1") as made:
        yield made


def address_and_token(federation: RunningFederation) -> tuple[str, str]:
    from hansa.cli.instance import Instance

    instance = Instance(federation.instance)
    return instance.control_url, instance.tokens["write"]


def text(page: Page, element: str) -> str:
    return str(page.run(f"document.getElementById('{element}').textContent"))


def test_rounds_arrive_by_themselves_and_keys_alone_pause_the_job(
    federation: RunningFederation, page: Page, tmp_path: Path
) -> None:
    url, token = address_and_token(federation)
    page.open(url)
    page.sign_in("not-one-of-its-tokens")
    page.until("document.getElementById('gate-problem').textContent.includes('none of control')")
    page.sign_in(token)
    seen = page.until(ROUNDS, patience=60)
    page.until(f"{ROUNDS} > {seen}", patience=60)
    assert text(page, "live") == "live"
    assert text(page, "mode") == "mode he"
    for name in ("loss", "score", "members", "budgets", "knobs", "log", "processes"):
        page.until(f"document.querySelector('#{name} h2')?.textContent")
    page.until("document.querySelectorAll('#budgets li').length === 5", patience=60)
    assert "each organisation's own ledger decides" in text(page, "budgets").lower()

    # Nobody's mouse: the dialog to stop takes the focus, gives it back, and Escape does nothing else.
    page.tab_to("job-stop")
    page.key("Enter")
    page.until("document.querySelector('dialog[open]')?.contains(document.activeElement)")
    page.key("Escape")
    page.until("!document.querySelector('dialog') && document.activeElement.id === 'job-stop'")
    page.key("Tab", shift=True)
    page.until("document.activeElement.id !== 'job-stop'")
    assert page.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.run("document.body.focus(); document.activeElement.blur()")
    page.tab_to("job-pause")
    page.key("Enter")
    until(lambda: federation.job_status == "paused", 30)
    page.until("document.querySelector('#job .chip').textContent === 'paused'")
    # The button does nothing now, and who pressed it is still there.
    assert page.run("document.activeElement.id") == "job-pause"
    assert page.run("document.activeElement.getAttribute('aria-disabled')") == "true"

    # Control goes away and comes back: the page says so, and goes on by itself.
    federation.kill("control")
    page.until("document.getElementById('live').dataset.state === 'away'")
    page.until("document.getElementById('live').dataset.state === 'live'", patience=60)
    page.run("document.getElementById('job-resume').click()")
    until(lambda: federation.job_status in ("queued", "running"), 30)

    for width in (380, 1600):
        for dark in (False, True):
            page.look(width=width, dark=dark)
            time.sleep(0.2)
            assert page.run("document.documentElement.scrollWidth") <= width
            ground = page.run("getComputedStyle(document.body).backgroundColor")
            assert ground == ("rgb(14, 20, 24)" if dark else "rgb(243, 245, 244)")
            picture = tmp_path / f"{width}-{dark}.png"
            page.picture(picture)
            assert picture.stat().st_size > 20_000

    assert {it for it in page.requests if not it.startswith(f"{url}/")} == set()
    assert not any(token in it for it in page.requests)
    # What the refused token and the killed control left; nothing about the policy, nothing thrown.
    assert [it for it in page.faults if "Failed to load resource" not in it] == []


def test_the_policy_stops_what_is_not_the_pages_own(page: Page, tmp_path: Path) -> None:
    """The check above can fail: a request elsewhere, a script in the markup, and markup from text are faults."""
    with open_test_desk(tmp_path) as desk, serve(desk) as url:
        page.open(url)
        page.until("document.getElementById('gate-token')")
        page.run("fetch('http://127.0.0.1:1/').catch(() => null)")
        page.run("(() => { try { document.body.innerHTML = '<b>x</b>' } catch { } })()")
        page.until("1")
        assert any("Content Security Policy" in it for it in page.faults)
        assert page.run("document.querySelector('b')") is None


def test_two_hundred_rounds_are_there_within_a_second_and_nothing_stalls(page: Page, tmp_path: Path) -> None:
    with open_test_desk(tmp_path) as desk:
        plan = make_plan(rounds=400)
        fill(desk.store, plan, desk.charter_hash, MEMBERS, rounds=200)
        with serve(desk) as url:
            page.open(url)
            page.sign_in(SECRETS["write"])
            page.until(f"{ROUNDS} === 200")
            opened = [opening_ms(page) for _ in range(5)]
            page.run(WATCH_STALLS)
            nodes = page.run("document.querySelectorAll('*').length")
            fill(desk.store, plan, desk.charter_hash, MEMBERS, rounds=260, first=201)
            page.until(f"{ROUNDS} === 260")
            page.until("document.querySelector('#job .big').textContent.includes('260')")
            stalls = page.run("window.stalls")
            assert min(opened) <= 1000, opened
            assert max(stalls, default=0) <= 500, stalls
            # Sixty rounds more are drawn in the elements that are there.
            assert page.run("document.querySelectorAll('*').length") <= nodes + 20
    assert page.faults == []


def opening_ms(page: Page) -> float:
    """Milliseconds from asking for the page to its rounds being drawn, with the token that the tab remembers."""
    page.run("window.before = true")
    page.send("Page.reload")
    page.until(f"!window.before && {ROUNDS} === 200")
    found: Any = page.run("performance.getEntriesByName('drawn')[0]?.startTime")
    return float(found)


def scale(desk: ControlDesk, *, minutes: int, away: range) -> Entry:
    """Decisions of the real policy about a made-up demand up to now, each a minute after the other but for some."""
    scaler, ready, entries = Scaler(ServiceLimits("scoring", capacity=60.0, maximum=40)), 1, []
    noise = np.random.default_rng(1).normal(0.0, 20.0, minutes)
    for number in range(minutes):
        if number in away:
            continue
        at = time.time() - 60.0 * (minutes - number)
        demand = 600 + 400 * math.sin(number / 40) + float(noise[number])
        decision = scaler.decide(Signals(at=at, demand=demand, ready=ready))
        did = "nothing" if decision.wanted == ready else "scaled"
        entries.append(Entry(decision, ready, 0, 0, demand, None, None, None, did))
        ready = decision.wanted
    desk.store.scaling.enter([ScalingEntry.model_validate(it.as_json()) for it in entries])
    return entries[-1]


def test_a_scaled_service_shows_its_forecast_its_replicas_and_what_they_cost(
    page: Page, tmp_path: Path
) -> None:
    charts = "[...document.querySelectorAll('#scaling svg.chart')]"
    marks = f"{charts}.map((svg) => [...svg.querySelectorAll('.grid text')].map((it) => it.textContent))"
    # What is written outside of its chart is cut off.
    cut = (
        f"{charts}.flatMap((svg) => [...svg.querySelectorAll('text')].filter((it) => {{"
        "const [own, all] = [it.getBoundingClientRect(), svg.getBoundingClientRect()];"
        "return own.left < all.left - 1 || own.right > all.right + 1 }).map((it) => it.textContent))"
    )
    with open_test_desk(tmp_path) as desk, serve(desk) as url:
        newest = scale(desk, minutes=300, away=range(150, 200))
        page.open(url)
        page.sign_in(SECRETS["read"])
        page.until("document.querySelector('#scaling .band')?.getAttribute('d')")
        band = str(page.run("document.querySelector('#scaling .band').getAttribute('d')"))
        # Fifty minutes nobody looked, and nothing is drawn through them.
        before, after = band.removesuffix("Z").split("M")[1:]
        assert min(before.count("L"), after.count("L")) > 100
        high, low = np.array([it.split() for it in after.split("L")], float).reshape(2, -1, 2)
        assert (low[::-1, 0] == high[:, 0]).all()
        assert (low[::-1, 1] >= high[:, 1]).all()
        assert newest.decision.band is not None
        cost, _, regret = page.run(
            "[...document.querySelectorAll('#scaling .facts span')].map((it) => it.textContent)"
        )
        told = float(cost.removeprefix("Cost so far "))
        assert told == pytest.approx(newest.decision.cost, rel=0.005)
        assert "hindsight would have spent" in regret
        for width in (390, 1280):
            page.look(width=width)
            page.until(f"{charts}[0].clientWidth < {width} && {charts}[0].clientWidth > {width} / 4")
            assert page.run("document.documentElement.scrollWidth") <= width
            assert page.run(cut) == []
            for written in page.run(marks):
                assert len(written) == len(set(written)), written
            numbers = [it for it in page.run(marks)[1] if ":" not in it]
            assert len(numbers) > 1
            assert all(it.isdigit() for it in numbers), numbers
        page.run(f"{charts}[0].focus()")
        page.key("End")
        shown = newest.decision.band
        said = page.run("document.querySelector('#scaling output').textContent")
        band_told = [float(it) for it in said.rpartition("forecast ")[2].split(" to ")]
        assert band_told == pytest.approx([shown.low, shown.high], rel=0.005)
        # A service without a forecast is shown without one.
        bare = replace(newest, decision=replace(newest.decision, service="executor", band=None, regret=None))
        desk.store.scaling.enter([ScalingEntry.model_validate(bare.as_json())])
        page.until("document.querySelectorAll('#scaling select option').length === 2")
        page.run(
            "((it) => { it.value = 'executor'; it.dispatchEvent(new Event('change')) })"
            "(document.querySelector('#scaling select'))"
        )
        page.until("document.querySelector('#scaling .facts').textContent.includes('Regret not known yet')")
        assert page.run("document.querySelector('#scaling .band').getAttribute('d')") == ""
    assert page.faults == []


def test_keys_pause_and_resume_and_the_focus_stays(page: Page, tmp_path: Path) -> None:
    with open_test_desk(tmp_path) as desk:
        plan = make_plan(rounds=40)
        fill(desk.store, plan, desk.charter_hash, MEMBERS, rounds=10)
        with serve(desk) as url:
            page.open(url)
            page.sign_in(SECRETS["write"])
            page.until(f"{ROUNDS} === 10")
            for name in ("pause", "resume"):
                page.tab_to(f"job-{name}")
                page.key("Enter")
                page.until(f"document.getElementById('job-{name}').getAttribute('aria-disabled') === 'true'")
                assert page.run("document.activeElement.id") == f"job-{name}"
                wanted = desk.store.jobs.get(plan.job).wanted
                # Pressed once more it asks for nothing.
                page.key("Enter")
                time.sleep(0.3)
                assert desk.store.jobs.get(plan.job).wanted == wanted
            assert page.run("document.querySelector('.problem-box')") is None
    assert page.faults == []


def test_a_freeze_is_seen_on_the_page_and_not_buried(page: Page, tmp_path: Path) -> None:
    frozen = "grant 'spring' is frozen: complaint 17"
    with open_test_desk(tmp_path) as desk:
        plan = make_plan(rounds=400)
        fill(desk.store, plan, desk.charter_hash, MEMBERS, rounds=20)
        journal = desk.store.claim(plan.job, "run 2")
        attempt = journal.open_attempt("train", base=20, cohort=MEMBERS, left_out={}, knobs=journal.knobs())
        journal.receipts(attempt, "d" * 64, {name: signed(4, training=0.1) for name in MEMBERS})
        journal.set_status("running")
        journal.event("grant-frozen", frozen, member="b")
        for number in range(15):
            watch = Decision(
                key=f"w{number}", by="watch", round=20, sentence=f"seconds has moved up, {number}"
            )
            desk.store.decisions.keep(plan.job, watch)
        with serve(desk) as url:
            page.open(url)
            page.sign_in(SECRETS["read"])
            page.until("document.querySelectorAll('#budgets li').length === 4")
            states = page.run("[...document.querySelectorAll('#members .state')].map((it) => it.textContent)")
            assert [frozen in it for it in states] == [False, True, False, False]
            budgets = page.run("[...document.querySelectorAll('#budgets li')].map((it) => it.textContent)")
            assert ["would be exhausted" in it for it in budgets] == [True, False, True, True]
            assert f"takes no part since {states[1].partition('since ')[2]}" in budgets[1]
            rows = page.run(
                "[...document.querySelectorAll('#log > .scroll > .log > li')].map((it) => it.textContent)"
            )
            assert sum("seconds has moved" in it for it in rows) == 1
            assert "and 14 more" in rows[0]
            [told] = [it for it in rows if "complaint 17" in it]
            assert f"b: {frozen}" in told
            assert page.run("document.querySelector('#log .newest').textContent") == "1 out of the ordinary"
            page.run("document.querySelector('#log .more').click()")
            page.until("document.querySelectorAll('#log ul li').length === 14")
            # It takes part again.
            journal.commit(answered(journal, attempt), ModelState.start(np.zeros(3)).arrays())
            page.until("!document.querySelector('#members').textContent.includes('complaint 17')")
            page.until(
                "document.querySelectorAll('#budgets li')[1].textContent.includes('would be exhausted')"
            )
    assert page.faults == []


def answered(journal: JobJournal, attempt: int) -> AttemptResult:
    """Round 21, in which everybody took part."""
    cohort = tuple(MEMBERS)
    return AttemptResult(
        job=journal.plan.job,
        attempt=attempt,
        kind="train",
        status="applied",
        base=20,
        round=21,
        cohort=cohort,
        active=cohort,
        participation=tuple(Participation(member=it, outcome="replied", seconds=0.2) for it in cohort),
        knobs=journal.knobs(),
        seconds=0.5,
    )


def test_figures_that_noise_took_out_of_their_range_are_drawn_whole(page: Page, tmp_path: Path) -> None:
    chart = "document.querySelector('#loss svg.chart')"
    with open_test_desk(tmp_path) as desk:
        plan = make_plan(rounds=40)
        fill(desk.store, plan, desk.charter_hash, MEMBERS, rounds=10)
        journal = desk.store.claim(plan.job, "run 2")
        cohort = tuple(MEMBERS)
        attempt = journal.open_attempt("evaluate", base=10, cohort=cohort, left_out={}, knobs=journal.knobs())
        values = {"log_loss": MetricValue(value=-0.3, error=0.2), "auc": MetricValue(value=1.1, error=0.2)}
        changes = {"kind": "evaluate", "status": "evaluated", "base": 10, "round": None, "metrics": values}
        journal.commit(answered(journal, attempt).model_copy(update=changes), None)
        with serve(desk) as url:
            page.open(url)
            page.sign_in(SECRETS["read"])
            page.until(f"{chart}?.querySelector('.dots').getAttribute('d')")
            for card in ("loss", "score"):
                inside = page.run(ROOM.replace("CARD", card))
                # Half of a dot's width is 2.25.
                assert min(min(it) for it in inside) >= 2.25, card
            assert "below 0" in text(page, "loss")
            assert "above 1" in text(page, "score")
            # A table stands in its chart's place: the card beside it does not grow empty.
            before = page.run("document.getElementById('score').offsetHeight")
            page.run("document.querySelector('#loss summary').click()")
            page.until(f"{chart}.clientWidth === 0 && document.querySelectorAll('#loss tbody tr').length")
            assert page.run("document.getElementById('score').offsetHeight") <= before + 60
            page.run("document.querySelector('#loss summary').click()")
            page.until(f"{chart}.clientWidth > 0")
    assert page.faults == []


def test_nothing_to_show_is_said_in_sentences(page: Page, tmp_path: Path) -> None:
    with open_test_desk(tmp_path) as desk, serve(desk) as url:
        page.open(url)
        page.sign_in(SECRETS["read"])
        page.until("!document.getElementById('board').hidden")
        assert "no job yet" in text(page, "job")
        assert "nothing is charged" in text(page, "budgets")
        assert "No service is scaled" in text(page, "scaling")
        assert "mode clear" in text(page, "warnings")
        assert page.run("document.getElementById('job-start').disabled")
        assert "'write'" in text(page, "job")
        page.until("document.querySelectorAll('#members tbody tr').length === 4")
        desk.store.members.hold("b", "<b>late</b> three times", by="operator")
        page.until("document.querySelector('#members').textContent.includes('<b>late</b> three times')")
    assert page.faults == []


def test_a_dialog_says_what_is_wrong_and_starts_a_job(page: Page, tmp_path: Path) -> None:
    with open_test_desk(tmp_path) as desk, serve(desk) as url:
        page.open(url)
        page.sign_in(SECRETS["write"])
        page.until("!document.getElementById('board').hidden")
        page.run("document.getElementById('job-start').click()")
        page.until("document.activeElement.id === 'asked'")
        page.run("document.getElementById('asked').value = 'rounds = 0'")
        page.run("document.querySelector('dialog form').requestSubmit()")
        page.until("document.querySelector('dialog .problem').textContent.includes(\"field 'rounds'\")")
        page.run("document.getElementById('asked').value = 'rounds = 4'")
        page.run("document.querySelector('dialog form').requestSubmit()")
        page.until("document.querySelector('#job .big').textContent === 'Round 0 of 4'")
        (job,) = desk.store.jobs.all()
        assert job.plan.rounds == 4
        page.until("document.querySelector('#knobs li button')")
        page.run("document.querySelector('#knobs li button').click()")
        page.until("document.querySelector('#knobs li').textContent.includes('pinned')")
        assert [it.pinned for it in desk.store.knobs.of(job.job)] == [True, False]
