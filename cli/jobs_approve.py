"""`hansa jobs approve`: at an organisation, its yes to a job, over the agent's own socket."""

from __future__ import annotations

from hansa.cli import agent_client
from hansa.cli.budgets_decide import approved, who_decides
from hansa.cli.instance import MemberFolder
from hansa.cli.reach import check_job
from hansa.contract.errors import InputError


def approve_job(
    member: MemberFolder, job: str, *, grant: str | None, max_epsilon: float | None, by: str | None
) -> list[str]:
    """Say yes to the job that begins so; returns the lines to print.

    Raises
    ------
    InputError : several jobs begin so, or that is no job's id
    """
    job = _whole_id(member, check_job(job, "jobs approve"))
    answer = agent_client.command_agent(
        member, "approve", job=job, grant=grant, max_epsilon=max_epsilon, by=who_decides(by)
    )
    does = "takes no further part" if answer.get("used_up") else "takes part"
    why = ", which took as much already" if answer.get("used_up") else ""
    said = [f"{member.config.name} {does} in job {job}{why}; {approved(answer)}"]
    if start := answer.get("start"):
        said.append(
            f"it starts from the model of job {start['job']}, SHA-256 of its weights {start['weights']}"
        )
    return said


def _whole_id(member: MemberFolder, beginning: str) -> str:
    """The one job of the agent that begins so; what the agent does not know is left for it to refuse."""
    known = [it["job"] for it in agent_client.command_agent(member, "jobs")["jobs"]]
    found = [it for it in known if it.startswith(beginning)]
    if beginning in known or not found:
        return beginning
    if len(found) > 1:
        raise InputError(f"job {beginning}: {len(found)} jobs begin so: {', '.join(found)}")
    return str(found[0])
