"""Parts that read what earlier ones left: budgets and their proof, memory, cost."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from hansa.cli.suite.drawn import bars
from hansa.cli.suite.found import Drawing, Fact, Found, Rows
from hansa.cli.suite.running import Stage
from hansa.contract.errors import HansaError

_MIB = 1 << 20


@dataclass(frozen=True)
class BudgetsPart:
    """Every organisation's own ledger, recomputed and held against what left."""

    name: str = "budgets"
    title: str = "privacy budgets, from each organisation's own ledger"

    @property
    def command(self) -> str:
        """For one organisation alone."""
        return "hansa budgets verify --org NAME --instance .hansa/federated"

    def run(self, stage: Stage) -> Found:
        """Read, recompute, hold against the uploads on record."""
        from hansa.cli.budgets_proof import prove
        from hansa.cli.instance import Instance

        data = stage.data_of("federated")
        instance = Instance(Path(data["instance"]))
        left = {it["member"]: it for it in data["budgets"]}
        if not left:
            raise HansaError("no member has signed a receipt: the scenario has no noise, or nobody took part")
        rows, problems, proofs = [], [], []
        for name in instance.members:
            proof = prove(instance.member(name))
            problems += [f"{name}: {it}" for it in proof.problems]
            proofs.append(proof.as_json())
            mirrored = left.get(name, {})
            for grant, spent in proof.verified.epsilon.items():
                rows.append(
                    (
                        name,
                        grant,
                        f"{spent:.4g} of {mirrored.get('epsilon', float('nan')):g}",
                        f"{mirrored.get('percent_left', float('nan')):.1f} %",
                        str(mirrored.get("rounds_left", "-")),
                        str(proof.verified.rows),
                        str(proof.held.charged),
                        "holds" if not proof.problems else proof.problems[0],
                    )
                )
        percents = [(name, float(it["percent_left"])) for name, it in left.items()]
        columns = ("organisation", "grant", "epsilon spent", "left", "rounds left")
        more = ("ledger rows", "parts of uploads, all charged", "proof")
        return Found(
            sentences=(
                "Left and rounds left are the server's mirror, made of signed receipts; what is spent is recomputed "
                "from each organisation's own ledger by dp_accounting and held against what left that organisation.",
            ),
            headline=(
                Fact(
                    "ledgers verified",
                    f"{len(proofs) - len({it.split(':')[0] for it in problems})} of {len(proofs)}",
                ),
                Fact("least left", min(value for _, value in percents), "%"),
            ),
            tables=(Rows("Budgets", (*columns, *more), tuple(rows)),),
            drawings=(
                Drawing(
                    "budgets",
                    "privacy budget left",
                    bars("privacy budget left, of the grant", percents, "%", most=100.0),
                ),
            ),
            data={"proofs": proofs, "mirror": list(left.values())},
            problem=problems[0] if problems else "",
        )


@dataclass(frozen=True)
class MemoryPart:
    """The most that each process held while it ran."""

    name: str = "memory"
    title: str = "memory of each process"
    command: str = "hansa federated --json"

    def run(self, stage: Stage) -> Found:
        """From what was looked at twice a second, and of this process."""
        import resource

        peaks = dict(stage.data_of("federated")["peak_bytes"])
        if not peaks:
            raise HansaError("no process was looked at")
        # Linux counts it in KiB.
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        values = [*((name, held / _MIB) for name, held in peaks.items()), ("this command", own / _MIB)]
        rows = tuple((name, f"{value:.0f}") for name, value in values)
        agents = [held for name, held in peaks.items() if name.startswith("agent-")]
        largest = [Fact("largest agent", max(agents) / _MIB, "MiB")] if agents else []
        return Found(
            sentences=(
                "Resident bytes of a process with all that it started, the most seen, looked at by psutil twice "
                "a second; pages that processes share count in each.",
            ),
            headline=(*largest, Fact("all processes", sum(peaks.values()) / _MIB, "MiB")),
            tables=(Rows("Most resident", ("process", "MiB"), rows),),
            drawings=(
                Drawing("memory", "most resident memory", bars("most resident memory", values, "MiB")),
            ),
            data={"peak_bytes": peaks, "own_peak_bytes": own},
        )


@dataclass(frozen=True)
class CostPart:
    """What the scaled day cost, by the scaling policy's own cost model."""

    price: float
    name: str = "cost"
    title: str = "cost of a day, by policy"
    command: str = "hansa scaling"

    def run(self, stage: Stage) -> Found:
        """Money by policy."""
        policies = stage.data_of("scaling")["policies"]
        own = policies["ours"]["money"]
        rows = tuple(
            (
                name,
                f"{it['money']:.2f}",
                f"{30 * it['money']:.2f}",
                f"{100 * it['violations']:.2f} %",
                "" if name == "ours" else f"{it['money'] - own:+.2f}",
            )
            for name, it in policies.items()
        )
        columns = ("policy", "a day", "thirty such days", "minutes late", "more than ours, a day")
        return Found(
            sentences=(
                f"At {self.price:g} for a replica-hour (--price); a replica is paid from the minute it starts. "
                "Minutes late are not priced: they are held to their budget.",
            ),
            headline=(Fact("a day costs", own),),
            tables=(Rows("Cost", columns, rows),),
            drawings=(
                Drawing(
                    "cost",
                    "cost of a day",
                    bars("cost of a day", [(k, v["money"]) for k, v in policies.items()]),
                ),
            ),
            data={"price": self.price, "policies": policies},
        )
