"""Prometheus' own tool says of each alert what makes it fire and what leaves it quiet."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

RULES = Path(__file__).parents[2] / "deploy" / "monitoring" / "rules.yml"
NEEDED = os.environ.get("HANSA_NEEDS_PROMTOOL") == "1"

pytestmark = pytest.mark.skipif(
    shutil.which("promtool") is None and not NEEDED, reason="promtool is not here (Debian: prometheus)"
)

# Of promtool's clock: it starts at 0, and looks once a minute.
DAY = 24 * 60


@dataclass(frozen=True)
class Case:
    """An alert, series that make it fire and others that do not, in promtool's notation; when it is looked at."""

    alert: str
    fires: dict[str, str]
    quiet: dict[str, str]
    minutes: int = 30


def one(alert: str, series: str, bad: str, good: str, minutes: int = 30) -> Case:
    return Case(alert, {series: bad}, {series: good}, minutes)


FILE = 'node_textfile_mtime_seconds{file="/var/lib/hansa-metrics/agent-bank.prom"}'
BUCKETS = [f'hansa_round_seconds_bucket{{le="{le}"}}' for le in ("30", "60", "120", "+Inf")]

CASES = [
    one("HansaControlAway", 'up{job="hansa-control"}', "0x40", "1x40"),
    Case("HansaControlAway", {"other": "1x40"}, {'up{job="hansa-control"}': "1x40"}),
    one("HansaStoreAway", "hansa_store_up", "0x40", "1x40"),
    one("HansaSuperlinkAway", 'up{job="hansa-superlink"}', "0x40", "1x40"),
    one("HansaExecutorAway", 'up{job="hansa-executor",instance="a"}', "0x40", "1x40"),
    one("HansaExecutorAway", 'hansa_executor_superlink_up{instance="a"}', "0x40", "1x40"),
    one("HansaSidecarAway", 'up{job="hansa-sidecar"}', "0x40", "1x40"),
    one("HansaSidecarAway", "hansa_sidecar_look_timestamp_seconds", "60x40", "0+60x40"),
    Case(
        "HansaJobStuck",
        {'hansa_job_running{job="a"}': "1x60", 'hansa_job_progress_timestamp_seconds{job="a"}': "60x60"},
        {'hansa_job_running{job="a"}': "0x60", 'hansa_job_progress_timestamp_seconds{job="a"}': "60x60"},
        minutes=40,
    ),
    Case(
        "HansaJobStuck",
        {'hansa_job_running{job="a"}': "1x60", 'hansa_job_progress_timestamp_seconds{job="a"}': "60x60"},
        {'hansa_job_running{job="a"}': "1x60", 'hansa_job_progress_timestamp_seconds{job="a"}': "0+60x60"},
        minutes=40,
    ),
    Case(
        "HansaRoundSlow",
        dict(zip(BUCKETS, ("0+0x90", "0+5x90", "0+10x90", "0+10x90"), strict=True)),
        dict(zip(BUCKETS, ("0+10x90", "0+10x90", "0+10x90", "0+10x90"), strict=True)),
        minutes=80,
    ),
    Case(
        "HansaAttemptsFail",
        {'hansa_attempts_total{status="failed"}': "0+2x90"},
        {
            'hansa_attempts_total{status="failed"}': "0+2x90",
            'hansa_attempts_total{status="applied"}': "0+3x90",
        },
        minutes=80,
    ),
    Case(
        "HansaMemberAway",
        {'hansa_member_present{member="b"}': "0x40", 'hansa_member_held{member="b"}': "0x40"},
        {'hansa_member_present{member="b"}': "0x40", 'hansa_member_held{member="b"}': "1x40"},
    ),
    one("HansaMemberHeld", 'hansa_member_held{member="b"}', "1x90", "0x90", minutes=80),
    one("HansaBudgetNearlyExhausted", 'hansa_budget_left_ratio{member="b",grant="g"}', "0.05x40", "0.5x40"),
    # A counter that comes with its first fork, as it does, and one that has stood for long.
    one("HansaLedgerFork", "hansa_ledger_forks_total", "0x20 1x20", "1x200", minutes=30),
    one("HansaMemoryAlarm", 'hansa_process_memory_alarm{process="sidecar"}', "1x40", "0x40"),
    Case(
        "HansaFilesRunOut",
        {'process_open_fds{instance="a"}': "900x40", 'process_max_fds{instance="a"}': "1024x40"},
        {'process_open_fds{instance="a"}': "90x40", 'process_max_fds{instance="a"}': "1024x40"},
    ),
    one(
        "HansaCertificateExpires",
        'hansa_certificate_expiry_timestamp_seconds{certificate="server"}',
        f"{20 * 86400}x40",
        f"{60 * 86400}x40",
    ),
    one(
        "HansaCharterExpires",
        "hansa_charter_expiry_timestamp_seconds",
        f"{20 * 86400}x40",
        f"{60 * 86400}x40",
    ),
    one("HansaScalerStopped", 'hansa_scaler_look_timestamp_seconds{service="s"}', "60x40", "0+60x40"),
    one("HansaScalerAway", 'up{job="hansa-scaler"}', "0x40", "1x40"),
    one("HansaScalerFails", 'hansa_scaler_looks_total{service="s",did="failed"}', "0+1x40", "0+1x3 3x40"),
    one("HansaAgentFiguresOld", FILE, "60x40", "0+60x40"),
    # Gone after an hour; and still there.
    one("HansaAgentFiguresGone", FILE, f"0+60x60 _x{DAY}", "0+60x200", minutes=120),
    one("HansaAgentNotIsolated", 'hansa_agent_isolated{member="b"}', "0x40", "1x40"),
    one("HansaAgentLedgerBehind", 'hansa_agent_ledger_behind{member="b"}', "1x40", "0x40"),
    one(
        "HansaAgentBudgetNearlyExhausted",
        'hansa_agent_budget_left_ratio{member="b",grant="g"}',
        "0.05x40",
        "0.5x40",
    ),
    one(
        "HansaAgentMemory",
        'process_resident_memory_bytes{process="agent",member="b"}',
        f"{500 << 20}x40",
        f"{130 << 20}x40",
    ),
    one("HansaNodeOffline", 'hansa_node_online{member="b"}', "0x40", "1x40"),
    one("HansaScoringNotReady", 'hansa_scoring_ready{member="b"}', "0x40", "1x40"),
]


def test_every_alert_has_a_case() -> None:
    groups = yaml.safe_load(RULES.read_text())["groups"]
    assert {rule["alert"] for group in groups for rule in group["rules"] if "alert" in rule} == {
        it.alert for it in CASES
    }


def test_each_fires_when_it_should_and_else_is_quiet(tmp_path: Path) -> None:
    tests = [_test(it, series, number) for it in CASES for series, number in ((it.fires, 1), (it.quiet, 0))]
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}
    path = tmp_path / "alerts.yml"
    path.write_text(json.dumps(document))
    done = subprocess.run(
        ["promtool", "test", "rules", str(path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_the_rules_as_they_are() -> None:
    done = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def _test(case: Case, series: dict[str, str], firing: int) -> dict[str, Any]:
    shown = f"{case.alert} {'fires' if firing else 'is quiet'}"
    alerts = f'ALERTS{{alertname="{case.alert}",alertstate="firing"}}'
    return {
        "name": shown,
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": f"count({alerts}) or vector(0)",
                "eval_time": f"{case.minutes}m",
                "exp_samples": [{"labels": "{}", "value": firing}],
            }
        ],
    }
