"""What left this organisation, in words. A message without words does not leave: a test goes through all kinds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from hansa.clients.leaving import FILE, RECEIPT, SHARES, Leaving
from hansa.contract.blind_messages import SEALED_KEYS, SEALED_STATE
from hansa.contract.messages import PREKEYS
from hansa.contract.segments import EVALUATION, STATISTICS, UPDATE

# What each kind of message says by itself, beside the parts that it carries.
MESSAGES: Mapping[str, str] = MappingProxyType(
    {
        "hello": "its presence: since when the agent runs, the charter's version, its ledger's newest row number",
        "witness": "signatures on which start of which member, and on the newest ledger row it saw of it",
        "job": "a yes to a job, with the strength of the noise that it will add",
        "keys": "a signature on the hash of the job's keys",
        "upload": "an upload",
        "agree": "a signature on who took part in the attempt",
        "unmask": "a signature that it answered at the attempt's end",
        "apply": "number and check value of the model's state that it holds",
        "close": "word that the job's end was heard",
        "refusal": "a refusal",
    }
)
# Parts that were not computed from records by this message.
PARTS: Mapping[str, str] = MappingProxyType(
    {
        PREKEYS: "one-time public keys, with shares of their secrets sealed to the members",
        SEALED_KEYS: "the job's keys, sealed to the members",
        SEALED_STATE: "the model's state, sealed under the members' key",
        SHARES: "one share for each participant of a one-time secret, by which masks are taken off the sum",
        RECEIPT: "a signed receipt of what was charged",
    }
)
# Parts that were computed from records.
FIGURES: Mapping[str, str] = MappingProxyType(
    {
        UPDATE: "sum over records, to change the model",
        EVALUATION: "figures on held-out records",
        STATISTICS: "sum of statistics of the columns",
    }
)
COMPUTED: Mapping[str, str] = MappingProxyType(
    {
        "": "sum over its records",
        "gradients": "sum of clipped gradients",
        "walk": "clipped change of the model after several steps",
        "moments": "sum of clipped products of the columns",
    }
)
FILES: Mapping[str, str] = MappingProxyType(
    {
        "model": "a model, as a file that a person asked for",
        "served-model": "a model, put where this organisation's scoring service takes it from",
        "ledger": "the whole ledger, as a file that a person asked for",
        "evidence": "an archive of evidence, as a file that a person asked for",
        "backup": "a backup of the whole folder, private keys among it, as a file that a person asked for",
    }
)
# What a reading may ask for: a message, a part of one, or a file.
KINDS = tuple(dict.fromkeys((*MESSAGES, *FIGURES, *PARTS, FILE, *FILES)))
# A part or message of a version that is not this one's; only a reading of the record meets it.
_UNKNOWN = "something that this version of Hansa has no words for"


def speakable(leaving: Leaving) -> bool:
    """Whether there are words for the message and for each of its parts."""
    known = MESSAGES.keys() if leaving.kind != FILE else {FILE}
    parts = PARTS.keys() | FIGURES.keys()
    return leaving.kind in known and all(it.name in parts for it in leaving.parts)


def words(leaving: Leaving) -> str:
    """One sentence part: what left, with how it was protected."""
    return "; ".join(said for said, _ in parts(leaving))


def parts(leaving: Leaving) -> list[tuple[str, int | None]]:
    """What left, part by part, each with its bytes; None for what stands in the message's own few words."""
    if leaving.kind == FILE:
        kind, _, where = leaving.detail.partition(" ")
        return [(f"{FILES.get(kind, _UNKNOWN)}{': ' if where else ''}{where}", leaving.bytes)]
    found: list[tuple[str, int | None]] = [(_part(it.name, leaving), it.bytes) for it in leaving.parts]
    said = MESSAGES.get(leaving.kind, _UNKNOWN)
    if leaving.kind == "refusal":
        said = f"{said}: {leaving.detail}"
    # An upload is its parts.
    return found if leaving.kind == "upload" and found else [*found, (said, None)]


def _part(name: str, leaving: Leaving) -> str:
    if name not in FIGURES:
        return PARTS.get(name, _UNKNOWN)
    what = FIGURES[name]
    if name == UPDATE:
        what = COMPUTED[leaving.computed]
    elif name == EVALUATION:
        what = f"{'histogram of scores' if leaving.histogram else 'sum of errors'} of held-out records"
    # The envelope of mode `he` is the update's alone (PROTOCOL section 6).
    protections = {"clear": [], "masked": ["masked"], "he": ["masked", "encrypted"]}[leaving.mode]
    protections = protections if name == UPDATE else protections[:1]
    how = [*(["noised"] if leaving.noise == "local" else []), *protections]
    article = f"a {' and '.join(how)}" if how else "a"
    more = {
        "none": " without noise",
        "local": "",
        "distributed": " with this organisation's share of the noise",
    }[leaving.noise]
    bare = ", which the server can read" if leaving.mode == "clear" else ""
    return f"{article.replace('noised and masked and', 'noised, masked and')} {what}{more}{bare}"
