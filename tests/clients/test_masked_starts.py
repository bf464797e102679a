"""After its start an agent knows nothing of what came before, and believes only its peers' words (PROTOCOL 3, 7)."""

from __future__ import annotations

import pytest
from federation import make_federation
from masked_side import MaskedServer, forged, ready
from refused import assert_refused

from hansa.contract.messages import WitnessRequest


@pytest.fixture
def server() -> MaskedServer:
    return ready(make_federation(4, mode="masked"))


def test_prekeys_of_a_peer_from_before_this_agents_start_are_unknown(server: MaskedServer) -> None:
    kept = server.stock["b"][0]
    server.restart("a")
    server.exchange("a")
    server.propose("a")
    lie = server.begin(1, {"b": kept})
    refused = assert_refused(server, lie, "prekey-unknown")
    assert refused.facts["member"] == "b"
    # To a member that never stopped the same prekey is good.
    assert server.send("c", lie.request).said == "upload"


def test_an_agent_knows_no_prekey_of_its_own_from_before_its_start(server: MaskedServer) -> None:
    kept = server.stock["a"][0]
    server.restart("a")
    server.exchange("a")
    server.propose("a")
    assert_refused(server, server.begin(1, {"a": kept}), "prekey-unknown")
    assert_refused(server, server.begin(1, {"a": forged(kept, number=5)}), "prekey-unknown")


def test_before_its_start_is_witnessed_an_agent_takes_part_in_nothing() -> None:
    server = ready(make_federation(5, mode="masked"))
    server.restart("a")
    server.hello("a")
    server.propose("a")
    server.stock["a"].clear()
    assert server.ask("a", WitnessRequest(prekeys=4)).said == "witness"
    honest = server.begin(1)
    needed = server.federation.charter.witnesses_needed
    assert needed == 3
    for signed, peer in enumerate("bcd"):
        refused = assert_refused(server, honest, "prekey-unknown")
        assert refused.facts == {"signed": signed, "needed": needed}
        words = server.words(peer, {"a": server.starts["a"]})
        assert server.ask("a", WitnessRequest(shown=words)).said == "witness"
    # Witnessed now: what b, c and d made since then is good, of e nothing is known.
    for peer in "bcd":
        server.stock[peer].clear()
        assert server.ask(peer, WitnessRequest(prekeys=4)).said == "witness"
    assert assert_refused(server, server.begin(2), "prekey-unknown").facts["member"] == "e"
    # The others knew another start of this member: they take its prekeys once it signed theirs.
    assert server.send("b", server.begin(3, cohort=tuple("abcd")).request).said == "prekey-unknown"
    for word in server.words("a", {peer: server.starts[peer] for peer in "bcd"}):
        assert server.ask(word.member, WitnessRequest(shown=(word,))).said == "witness"
    server.stock["a"].clear()
    assert server.ask("a", WitnessRequest(prekeys=4)).said == "witness"
    server.train(server.begin(4, cohort=tuple("abcd")))


def test_words_on_another_start_or_by_nobody_count_for_nothing(server: MaskedServer) -> None:
    early = server.words("b", {"a": server.starts["a"]})
    server.restart("a")
    server.hello("a")
    (word,) = server.words("b", {"a": server.starts["a"]})
    (others,) = server.words("b", {"c": server.starts["a"]})
    lies = {
        "replayed": [early[0], others, word.model_copy(update={"witness": "a"})],
        "unknown-member": [
            word.model_copy(update={"first": 0}),
            word.model_copy(update={"witness": "c"}),
            word.model_copy(update={"witness": "mallory"}),
            word.model_copy(update={"signature": "?"}),
        ],
    }
    for code, words in lies.items():
        for lie in words:
            assert server.ask("a", WitnessRequest(shown=(word, lie))).said == code
            assert server.hello("a").accepts == {}
    assert server.ask("a", WitnessRequest(shown=(word,))).said == "witness"
    assert set(server.hello("a").accepts) == {"b"}


@pytest.mark.parametrize("who", ["a", "mallory"])
def test_nobody_signs_for_itself_or_for_a_stranger(server: MaskedServer, who: str) -> None:
    assert server.ask("a", WitnessRequest(starts={who: "0" * 32})).said == "unknown-member"
