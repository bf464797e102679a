"""`hansa evidence dpia`: a data-protection impact assessment (GDPR Art. 35(7)), filled from what files know."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from hansa.cli.budgets_ledger import open_ledger
from hansa.cli.dpia_risks import residual
from hansa.cli.instance import MemberFolder
from hansa.clients.forgotten import FORGOTTEN, read_decisions
from hansa.contract.charter import Charter
from hansa.contract.errors import InputError
from hansa.contract.features import CategoricalColumn
from hansa.contract.shown import privacy_sentence, protection_sentence, protection_warnings
from hansa.contract.signatures import verify_charter
from hansa.privacy.accounts import GrantAccount
from hansa.privacy.book import Book

FILL = "**[FILL IN: {}]**"


def fill(what: str) -> str:
    """A field that the officer fills."""
    return FILL.format(what)


def assessment(member: MemberFolder, now: datetime) -> str:
    """The page, in Markdown.

    Raises
    ------
    HansaError : the charter is not signed by all, or the ledger is damaged
    """
    verified = verify_charter(member.charter, member.signatures)
    charter, name = verified.charter, member.config.name
    if charter.member(name) is None:
        raise InputError(f"{member.charter}: '{name}' is not among its members")
    noised = charter.privacy.noise != "none"
    book = Book(open_ledger(member).rows()) if noised else Book()
    forgotten = sum(int(str(it["entities"])) for it in read_decisions(member.folder / FORGOTTEN))
    sections = (
        _head(charter, verified.hash, name, now),
        _description(charter, name, member.config.data_set),
        _figures(charter, book),
        _necessity(charter, book),
        _risks(charter),
        _measures(charter, book, forgotten),
        _end(),
    )
    return "\n\n".join("\n".join(it) for it in sections) + "\n"


def _head(charter: Charter, digest: str, name: str, now: datetime) -> list[str]:
    return [
        f"# Data-protection impact assessment: {charter.task.title or charter.name}",
        "",
        f"Draft for {name}, made on {now.astimezone(UTC):%Y-%m-%d} from charter '{charter.name}' version "
        f"{charter.version} (SHA-256 `{digest}`, signed by all {len(charter.members)} members) and from this "
        "organisation's ledger. Figures are theirs. What no file knows is marked; a person has to fill it in, judge "
        "the risks and sign. GDPR Article 35(7).",
        *[f"\n> Warning: {it}" for it in protection_warnings(charter)],
    ]


def _description(charter: Charter, name: str, data_set: str) -> list[str]:
    own, features = charter.member(name), charter.task.features
    controller = "" if own is None else own.controller
    return [
        "## 1. Description of the processing (Art. 35(7)(a))",
        "",
        f"- Controller: {controller}; {fill('address, representative, data protection officer')}",
        f"- Others in the consortium: {', '.join(it.controller for it in charter.members if it.name != name)}; "
        f"{fill('joint controllers (Art. 26) or separate, and the agreement')}",
        f"- Operator of the server: {fill('who runs it, where, on which contract (Art. 28)')}",
        f"- Task: {charter.task.title or fill('what is learnt')}; model '{charter.task.model.name}'",
        f"- Purpose in words: {fill('what the model is used for, and who decides by it (Art. 22)')}",
        f"- Data set: '{data_set}'; {fill('source of the records, categories of people, retention')}",
        f"- People are told apart by: {features.entity or 'nothing: each record counts by itself'}; how many: "
        f"{fill('number of people; it is not in the charter')}",
        f"- Label: `{features.label.column}`. Columns, as the contract has them:",
        "",
        "| column | kind | range |",
        "|---|---|---|",
        *(
            f"| `{_cell(it.name)}` | {it.kind} | "
            + (
                f"{len(it.categories)} categories |"
                if isinstance(it, CategoricalColumn)
                else f"{it.low:g} to {it.high:g} |"
            )
            for it in features.columns
        ),
        "",
        "- Special categories (Art. 9) or criminal records (Art. 10) among them: "
        f"{fill('which columns, which exemption')}",
        "- What leaves: sums over records (updates of the model, figures of its quality), receipts, keys; no record. "
        "`hansa outbox` lists every message.",
        f"- {protection_sentence(charter)}.",
        f"- {privacy_sentence(charter)}.",
        f"- Agreed until {charter.expires:%Y-%m-%d}.",
    ]


def _figures(charter: Charter, book: Book) -> list[str]:
    if charter.privacy.noise == "none":
        return ["### What was granted and spent", "", "Nothing is charged and nothing is bounded: no noise."]
    if not book.grants:
        return ["### What was granted and spent", "", "Nothing was granted yet; nothing was spent."]
    lines = [
        "### What was granted and spent",
        "",
        "| grant | epsilon, delta | spent, as epsilon | left | until | purpose | legal basis | by |",
        "|---|---|---|---|---|---|---|---|",
    ]
    return lines + [_grant(it) for it in book.grants.values()]


def _grant(account: GrantAccount) -> str:
    row, data_set = account.row, account.data_set.row
    spent = data_set.currency.epsilon(account.spent, row.delta)
    return (
        f"| {row.grant} | {row.epsilon:g}, {row.delta:g} | {spent:.4g} | {account.percent_left:.3g} % | "
        f"{row.expires:%Y-%m-%d} | {_cell(row.purpose) or fill('purpose')} | "
        f"{_cell(row.legal_basis) or fill('legal basis')} | {_cell(row.granted_by)} |"
    )


def _necessity(charter: Charter, book: Book) -> list[str]:
    caps = [
        f"- Data set '{it.row.name}': never more than epsilon {it.row.epsilon:g} at delta {it.row.delta:g} over its "
        "lifetime, under all grants together."
        for it in book.data_sets.values()
    ]
    features = charter.task.features
    bases = sorted({it.row.legal_basis for it in book.grants.values()} - {""})
    return [
        "## 2. Necessity and proportionality (Art. 35(7)(b))",
        "",
        f"- Lawful basis: {', '.join(bases) or fill('legal basis')}; why it covers this: {fill('reasoning')}",
        f"- Why one organisation's own data is not enough: {fill('reasoning')}",
        f"- Why no less intrusive way does: {fill('synthetic data, published figures, fewer columns')}",
        f"- Minimisation: {len(features.columns)} columns; {_counted(charter)}; {100 * features.holdout:g} % of "
        f"{features.entity or 'record'}s are held out and never trained on.",
        *caps,
        f"- Information to people (Art. 13, 14): {fill('where they are told')}",
        f"- Access, rectification, objection, erasure: {fill('process')}"
        + (
            "; `hansa data forget` leaves a person out from the next attempt on. Models that were made before, and "
            "what was spent, stay."
            if features.entity
            else "; the contract names no entity column, so a person is taken out of the data by hand."
        ),
        f"- Transfers to third countries: {fill('where members and the server are')}",
    ]


def _counted(charter: Charter) -> str:
    entity, most = charter.task.features.entity, charter.training.max_records
    if entity is None:
        return "each record counts by itself"
    return f"of each {entity} at most {most} record{'s count' if most > 1 else ' counts'}"


def _risks(charter: Charter) -> list[str]:
    rows = [
        f"| {_cell(title)} | {_cell(says)} | {fill('likelihood, severity')} |"
        for title, says in residual(charter)
    ]
    return [
        "## 3. Risks to the rights and freedoms of people (Art. 35(7)(c))",
        "",
        "Risks that stay under this charter, from the threat model of the software. Others are the officer's to name: "
        f"{fill('wrong or unfair decisions by the model, function creep, re-use')}",
        "",
        "| risk that stays | what it means here | judgement |",
        "|---|---|---|",
        *rows,
    ]


def _measures(charter: Charter, book: Book, forgotten: int) -> list[str]:
    protection, privacy = charter.protection, charter.privacy
    found = [
        "## 4. Measures (Art. 35(7)(d))",
        "",
        "- Records stay at the organisation: one process without a network reads them; nothing but sums leaves it.",
        "- That process obeys the charter that all members signed and the operator's signature, and refuses the rest.",
    ]
    if protection.mode != "clear":
        found.append(
            f"- Updates are masked: a sum opens only with {charter.threshold} of {len(charter.members)} members, over "
            f"at least {charter.least_active}; it holds against the server with up to {protection.c} of them."
        )
    if protection.mode == "he":
        found.append(
            "- The sum is encrypted under a key of the members': the server alone reads neither sum nor model."
        )
    if protection.mode == "clear":
        found.append("- No masking and no encryption between the organisation's update and the server.")
    if privacy.noise == "none":
        found.append("- No noise is added. No differential privacy is claimed.")
    else:
        whose = (
            "all of it at each organisation"
            if privacy.noise == "local"
            else "a share of it at each organisation"
        )
        found.append(
            f"- Differential privacy: what a {charter.task.features.entity or 'record'} can change in an update "
            f"is clipped to {charter.training.clip:g}, and Gaussian noise is added, {whose}; no grant's "
            f"delta is above {privacy.delta:g}."
        )
        found.append(
            f"- Every release is charged before it is computed, in a chained ledger of {book.head.sequence} "
            "rows whose head the other members witness; at most "
            f"{privacy.charges_per_day} charges a day and {privacy.charges_per_job} a job."
        )
    found.append(f"- Jobs need this organisation's yes: approval is {charter.approval}.")
    found.append(f"- {forgotten} people were forgotten so far (`hansa data forget --list`).")
    found.append("- What left is on record (`hansa outbox`); a job's proof is `hansa evidence JOB`.")
    found.append(
        f"- Organisational measures: {fill('access to the machine, training, keys, incident response')}"
    )
    return found


def _end() -> list[str]:
    return [
        "## 5. Judgement",
        "",
        f"- Views of the people concerned or their representatives (Art. 35(9)): {fill('sought, or why not')}",
        f"- Advice of the data protection officer (Art. 35(2)): {fill('advice, date')}",
        f"- Residual risk, and whether the authority is consulted (Art. 36): {fill('judgement')}",
        f"- Review due (Art. 35(11)): {fill('date; at the latest with the next charter version')}",
        f"- Signed: {fill('name, role, date')}",
    ]


def _cell(text: str) -> str:
    """Text as a table's cell holds it."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")


def marked(text: str) -> Sequence[str]:
    """What is still to be filled in."""
    return [it.split("]**")[0] for it in text.split("**[FILL IN: ")[1:]]
