"""Drafts of the impact assessments: DPIA (GDPR Art. 35) and PIPIA (PIPL Art. 55-56). Owns their chapters.

They are drafts: figures, mechanisms and evidence are filled in; necessity, the weighing of risks and the decision are
left to people, and every such place says so.
"""

from __future__ import annotations

from server.reports.document import Fact, Section, Table
from server.reports.shared import (
    Installation,
    budget_section,
    consent_section,
    evidence_section,
    found_title,
    requests_section,
    sentence,
)
from server.words import Words

DPIA_TITLE = "Data protection impact assessment (draft)"
PIPIA_TITLE = "Personal information protection impact assessment (draft)"
DPIA_SUMMARY = (
    "Draft under GDPR Art. 35(7), filled in with what this installation measures about itself. Whatever needs a "
    "person's judgement is marked as open."
)
PIPIA_SUMMARY = (
    "Draft under PIPL Art. 55 and 56, filled in with what this installation measures about itself. Keep the finished "
    "report and the record of handling for at least three years (Art. 56)."
)


def dpia(say: Words, found: Installation) -> list[Section]:
    """Chapters after GDPR Art. 35(7)(a) to (d)."""
    return [
        _description(say, found, say("1. Systematic description (Art. 35(7)(a))")),
        _necessity(say, found, say("2. Necessity and proportionality (Art. 35(7)(b))")),
        _risks(say, found, say("3. Risks to rights and freedoms (Art. 35(7)(c))")),
        _measures(say, found, say("4. Measures (Art. 35(7)(d))")),
        budget_section(say, found),
        models_section(say, found),
        consent_section(say, found),
        requests_section(say, found),
        evidence_section(say, found),
        Section(
            heading=say("Opinion and decision"),
            open_points=(
                say("Advice of the data protection officer (Art. 35(2))."),
                say("Views of data subjects or their representatives (Art. 35(9))."),
                say("Decision, date and signature; whether the authority is consulted before (Art. 36)."),
                say("Date of the next review (Art. 35(11))."),
            ),
        ),
    ]


def pipia(say: Words, found: Installation) -> list[Section]:
    """Chapters after PIPL Art. 55 and 56."""
    return [
        Section(
            heading=say("1. Why an assessment is due (Art. 55)"),
            paragraphs=(
                say("Personal information is used for automated decision-making (Art. 55(2)): which ad is shown."),
                say(
                    "No sensitive personal information is processed by design: a feature specification that names one "
                    "is refused (Art. 28, Art. 55(1))."
                ),
            ),
            open_points=(say("Entrusted processing, provision to others, publication, export (Art. 55(3) and (4))."),),
        ),
        _description(say, found, say("2. Purposes and ways of handling (Art. 56(1))")),
        _necessity(say, found, say("3. Lawful, legitimate and necessary (Art. 56(1))")),
        Section(
            heading=say("4. Automated decision-making (Art. 24)"),
            paragraphs=(
                say("An option that is not based on personal characteristics is always there and needs no account."),
                say("Refusing is as easy as agreeing and changes no price and no function; the price is no output."),
                say("Each ad can say why it was shown; people can ask for an explanation and refuse the decision."),
            ),
            facts=(Fact(label=say("Stopped by officers now"), value=_stops(say, found)),),
        ),
        Section(
            heading=say("5. Minors (Art. 28 and 31)"),
            paragraphs=(
                say("Whoever has not declared to be an adult gets contextual ads only and does not train the model."),
            ),
            facts=(Fact(label=say("Protected subjects"), value=f"{found.minors:,}"),),
        ),
        _risks(say, found, say("6. Influence on personal rights and security risks (Art. 56(2))")),
        _measures(say, found, say("7. Protective measures, and whether they fit the risk (Art. 56(3))")),
        budget_section(say, found),
        models_section(say, found),
        consent_section(say, found),
        requests_section(say, found),
        evidence_section(say, found),
        Section(
            heading=say("Conclusion"),
            open_points=(
                say("Conclusion, level of risk that remains, person in charge, date and signature."),
                say("Where the report is kept, until when (at least three years)."),
            ),
        ),
    ]


def models_section(say: Words, found: Installation) -> Section:
    """What each model claims, from its signed manifest."""
    rows = tuple(
        (
            str(row.manifest.version),
            row.manifest.created_at,
            " | ".join(sentence(say, claim) for claim in row.manifest.privacy),
        )
        for row in found.releases[:10]
    )
    return Section(
        heading=say("Models in the registry: figures"),
        paragraphs=() if rows else (say("No model is registered yet."),),
        tables=(
            Table(
                caption=say("The newest ten; each statement is signed with its model."),
                columns=(say("Version"), say("Registered"), say("Guarantee")),
                rows=rows,
            ),
        )
        if rows
        else (),
    )


def _description(say: Words, found: Installation, heading: str) -> Section:
    rows = tuple(
        (
            found_title(say, found, rule.id.value),
            ", ".join(rule.data),
            ", ".join(recipient.name for recipient in rule.recipients) or say("none: nothing leaves the device"),
            rule.retention,
        )
        for rule in found.policies.purposes.purposes
    )
    return Section(
        heading=heading,
        paragraphs=(
            say(
                "Apps record behaviour on the person's own device, encrypted. A model of clicks is trained there. "
                "With consent, a clipped update covered with noise is summed with those of many devices under "
                "masks; the sum improves the shared model. Ads are chosen on the device from a list that is the "
                "same for everybody."
            ),
        ),
        tables=(
            Table(
                caption=say("Purposes, each agreed to alone."),
                columns=(say("Purpose"), say("Personal data"), say("Recipients"), say("Kept how long")),
                rows=rows,
            ),
        ),
        open_points=(say("Describe the apps that take part, their reach and their users."),),
    )


def _necessity(say: Words, found: Installation, heading: str) -> Section:
    return Section(
        heading=heading,
        paragraphs=(
            say("Basis is consent per purpose, with receipts; nothing is bundled, and no function depends on it."),
            say("Raw behaviour, names, addresses, exact ages and IPs are not collected by the service at all."),
            say(
                "Personalised placement is possible without contributing to the model: neither is a price of the other."
            ),
            say(
                "A grant ends by itself after {days} days and with any material change of the notice.",
                days=found.policies.purposes.validity_days_default,
            ),
        ),
        open_points=(say("Why contextual ads alone do not reach the aim; what was weighed against it."),),
    )


def _risks(say: Words, found: Installation, heading: str) -> Section:
    rows = (
        (
            say("Somebody learns from a model or a sum what one person did"),
            say("Noise and clipping with a proved bound; caps per device; attempts to break it"),
            say("See the privacy budget below"),
        ),
        (
            say("The server looks at single updates"),
            say(
                "Secure aggregation: fewer than {count} devices are never summed",
                count=found.policies.privacy_budget.cohort.devices_min,
            ),
            say("The share of dishonest devices is an assumption"),
        ),
        (
            say("A withdrawal is heeded too late"),
            say("Consent is read at every decision, at the start of a round and before an update is accepted"),
            say("What was contributed before cannot be taken back; its bound is stated to the person"),
        ),
        (
            say("Children are profiled"),
            say("Only declared adults get personalised treatment; age is never inferred"),
            say("A false declaration is believed"),
        ),
        (
            say("Records of consent or of spending are altered afterwards"),
            say("Merkle log, signed checkpoints kept elsewhere, offline verification"),
            say("Entries that were never written cannot be missed"),
        ),
        (
            say("Staff look up people"),
            say("Roles, random handles, every privileged read is logged under the reader's name"),
            say("Misuse is seen, not prevented"),
        ),
    )
    return Section(
        heading=heading,
        tables=(
            Table(
                caption=say("Risks that this design meets, how, and what remains."),
                columns=(say("Risk"), say("Measure"), say("What remains")),
                rows=rows,
            ),
        ),
        open_points=(say("Likelihood and severity of each risk in your setting; further risks."),),
    )


def _measures(say: Words, found: Installation, heading: str) -> Section:
    cohort = found.policies.privacy_budget.cohort
    return Section(
        heading=heading,
        facts=(
            Fact(label=say("Profile of training"), value=say(found.policies.privacy_budget.profile.value)),
            Fact(label=say("Smallest cohort"), value=f"{cohort.devices_min:,}"),
            Fact(label=say("Dropout allowed"), value=f"{cohort.dropout_fraction_max:.0%}"),
            Fact(label=say("Devices that may collude with the server"), value=f"{cohort.corrupt_fraction_max:.0%}"),
            Fact(label=say("Retention on the device, days"), value=_retention(found)),
            Fact(label=say("Stopped by officers now"), value=_stops(say, found)),
        ),
    )


def _retention(found: Installation) -> str:
    return ", ".join(f"{kind.value} {days}" for kind, days in found.policies.retention.retention_days.items())


def _stops(say: Words, found: Installation) -> str:
    return ", ".join(f"{say(scope)}: {target}" for scope, target in found.stops) or say("nothing")
