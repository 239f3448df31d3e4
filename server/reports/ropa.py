"""Record of processing activities (GDPR Art. 30; PIPL Art. 54-55 ask for the same facts). Owns its chapters."""

from __future__ import annotations

from server.reports.document import Fact, Section, Table
from server.reports.shared import Installation, consent_section, evidence_section, found_title
from server.words import Words

TITLE = "Record of processing activities"
SUMMARY = (
    "What this installation processes, for whom, on which basis, where it goes and how long it stays; written from the "
    "policy documents that are in force and from the service's own figures."
)


def chapters(say: Words, found: Installation) -> list[Section]:
    """All chapters."""
    return [
        _parties(say, found),
        *(_activity(say, found, index) for index in range(len(found.policies.purposes.purposes))),
        _contextual(say),
        _egress(say, found),
        _security(say),
        consent_section(say, found),
        evidence_section(say, found),
    ]


def _parties(say: Words, found: Installation) -> Section:
    return Section(
        heading=say("Controller and contacts"),
        facts=(
            Fact(label=say("Controller"), value=found.controller),
            Fact(label=say("Categories of data subjects"), value=say("People who use a participating app and agreed")),
            Fact(label=say("Subjects enrolled"), value=f"{found.subjects:,}"),
        ),
        open_points=(
            say("Name and contact of the controller's representative and of the data protection officer."),
            say("Joint controllers, if apps and this installation decide together (GDPR Art. 26)."),
        ),
    )


def _activity(say: Words, found: Installation, index: int) -> Section:
    rule = found.policies.purposes.purposes[index]
    recipients = ", ".join(recipient.name for recipient in rule.recipients)
    return Section(
        heading=say("Activity: {title}", title=found_title(say, found, rule.id.value)),
        paragraphs=(rule.text[say.locale],),
        facts=(
            Fact(
                label=say("Legal basis"), value=say("Consent (GDPR Art. 6(1)(a), PIPL Art. 13(1)), each purpose alone")
            ),
            Fact(label=say("Needs also"), value=", ".join(needed.value for needed in rule.requires) or "–"),
            Fact(label=say("Personal data"), value=", ".join(rule.data)),
            Fact(label=say("Recipients"), value=recipients or say("none: nothing leaves the device")),
            Fact(label=say("Kept where"), value=rule.storage),
            Fact(label=say("Kept how long"), value=rule.retention),
            Fact(label=say("Withdrawal"), value=found.policies.purposes.withdrawal_method),
            Fact(
                label=say("A grant holds"),
                value=say(
                    "{days} days, at most {most}",
                    days=found.policies.purposes.validity_days_default,
                    most=found.policies.purposes.validity_days_max,
                ),
            ),
        ),
    )


def _contextual(say: Words) -> Section:
    return Section(
        heading=say("Contextual placement"),
        paragraphs=(
            say(
                "Without consent ads are chosen by the page alone. No personal data is used for it, and no function of "
                "an app depends on agreeing (PIPL Art. 16 and 24, E-Commerce Law Art. 18)."
            ),
        ),
    )


def _egress(say: Words, found: Installation) -> Section:
    rows = tuple(
        (
            rule.message,
            rule.purpose.value if rule.purpose else say("nothing about behaviour"),
            f"{rule.size_bytes_max:,}",
            str(rule.per_day_max),
            say("yes") if rule.charged else say("no"),
        )
        for rule in found.policies.egress.messages
    )
    return Section(
        heading=say("Everything that may leave a device"),
        tables=(
            Table(
                caption=say("From the egress policy in force; whatever is not listed does not leave."),
                columns=(
                    say("Message"),
                    say("Purpose"),
                    say("Bytes at most"),
                    say("Per day at most"),
                    say("Charged to the privacy budget"),
                ),
                rows=rows,
            ),
        ),
    )


def _security(say: Words) -> Section:
    return Section(
        heading=say("Technical and organisational measures"),
        paragraphs=(
            say("Behaviour is stored on the device alone, encrypted; erasing it destroys the key."),
            say(
                "Updates are clipped, covered with noise and summed under masks: the server reads sums over many "
                "devices."
            ),
            say("Subjects are random handles; there is no name, address, e-mail or IP in any table."),
            say("API keys are stored as keyed hashes; raising a cap takes two officers; privileged reads are logged."),
        ),
        open_points=(
            say("Transfers to third countries, with their safeguards (GDPR Art. 30(1)(e), PIPL Art. 38)."),
            say("Organisational measures of the operator: hosting, backups, staff, processors."),
        ),
    )
