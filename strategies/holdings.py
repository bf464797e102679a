"""What the members of a job in mode `he` say they hold, and who can take part with it."""

from __future__ import annotations

from collections import Counter

from hansa.contract.blind_messages import ApplyReply, Held, KeysReply
from hansa.secagg.parties import Parties
from hansa.strategies.blind_state import BlindState


class Holdings:
    """Keys and states of those that approved the job, as far as they said; nothing of those that must say it again."""

    def __init__(self, parties: Parties) -> None:
        self._parties = parties
        self._held: dict[str, Held] = {}
        # The state that members must hold before they take part.
        self.state = BlindState.start()

    def __contains__(self, member: str) -> bool:
        return member in self._held

    def __getitem__(self, member: str) -> Held:
        return self._held[member]

    @property
    def epochs(self) -> list[int]:
        """Numbers of the newest keys that they signed for, the highest first."""
        return sorted((it.epoch for it in self._held.values()), reverse=True)

    @property
    def epoch(self) -> int:
        """Number of the keys that most members are ready for; 0 while no member is."""
        ready = Counter(it.epoch for it in self._held.values() if it.ready)
        return max(ready, key=lambda epoch: (ready[epoch], epoch), default=0)

    def hear(self, member: str, held: Held) -> None:
        """What a member says it holds; keys of a stranger are none."""
        known = held.maker in self._parties.names
        nothing = {"epoch": 0, "maker": "", "ready": False}
        self._held[member] = held if known else held.model_copy(update=nothing)

    def forget(self, member: str) -> None:
        """The member may have begun anew, with older files."""
        self._held.pop(member, None)

    def unready(self) -> dict[str, str]:
        """Members that cannot take part yet, each with the reason."""
        return {name: reason for name, held in self._held.items() if (reason := self._lacks(held))}

    def took_keys(self, member: str, reply: KeysReply) -> None:
        """A member of them answered which keys it has now."""
        self._change(member, epoch=reply.epoch, ready=reply.ready, maker=reply.maker)

    def took_state(self, member: str, reply: ApplyReply) -> None:
        """A member of them answered which state it holds now."""
        self._change(member, round=reply.round, tag=reply.tag)

    def _change(self, member: str, **changed: str | int | bool) -> None:
        if member in self._held:
            self._held[member] = self._held[member].model_copy(update=changed)

    def _lacks(self, held: Held) -> str:
        if not held.ready or held.epoch != self.epoch:
            return "it does not have the job's keys yet"
        if self.state.tag and held.tag != self.state.tag:
            return f"it does not hold the model of round {self.state.round} yet"
        return ""

    def goes_on(self) -> bool:
        """Whether rounds can go on with the members that have keys and state."""
        return len(self._held) - len(self.unready()) >= self._parties.charter.minimum_cohort

    def is_ready(self, name: str) -> bool:
        """Whether a member has the keys and the standing state."""
        return name in self._held and not self._lacks(self._held[name])

    def has_keys(self, name: str) -> bool:
        """Whether a member is ready for the keys that most are ready for."""
        held = self._held.get(name)
        return held is not None and held.ready and held.epoch == self.epoch

    @property
    def borne(self) -> int:
        """Members that may be faulty and stop nothing."""
        charter = self._parties.charter
        return min(charter.protection.c, len(charter.members) - charter.threshold)
