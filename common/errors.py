"""The exception tree. Owns every error that crosses a room; must never carry personal data in its text.

ReticentError
├── InputError            what came in from outside is wrong; the text says what to do
│   ├── MalformedInput        undecodable or schema-violating bytes
│   ├── TruncatedFile         a file that stops before its end
│   ├── UnknownColumn         a description names a column that the data lacks
│   ├── InvalidLabel          a label outside {0, 1}
│   ├── UnknownPurpose        a purpose id outside the closed list
│   ├── UnknownNotice         a privacy notice that was never published here
│   ├── NoticeExpired         a privacy notice that is no longer the current one
│   ├── AskedTooEarly         a person who said no may not be asked again yet
│   ├── UndecodableSignal     a privacy signal that cannot be read to its last bit; carries a SignalReason
│   ├── EmptyDevice           nothing to learn from
│   └── OneClassData          only positives or only negatives
├── StoreError            the device's own storage
│   ├── VaultCorrupt          a record does not authenticate or decode
│   ├── WrongKey              the key does not belong to this vault
│   ├── LedgerRolledBack      the privacy ledger is older than what was spent, or gone
│   └── DeviceErased          the key was destroyed; the data is gone for good
├── TrustError            something that must be verified was not
│   ├── TamperedModel         signature or digest does not match
│   ├── UnknownSigner         the key id is not pinned
│   ├── InvalidReceipt        a consent receipt does not verify
│   ├── InvalidProof          a proof of the transparency log does not lead to its root
│   ├── InvalidCheckpoint     a checkpoint of the transparency log does not verify
│   └── InvalidSignature      a signed request does not verify
├── ContractError         two sides disagree about form
│   ├── SpecMismatch          another feature specification digest
│   ├── ShapeMismatch, DtypeMismatch, DigestMismatch
│   ├── NonFiniteValue        NaN or infinity where a number was promised
│   └── OutOfRange            a number beyond its declared bounds
├── Refused               a gate said no; carries a RefusalReason, never a why in free text
│   ├── ConsentRefused
│   ├── BudgetExhausted
│   └── EgressRefused
├── RoundError            a federated round cannot go on
│   ├── TooFewSurvivors
│   ├── OutOfStage            a message of another stage of the protocol than the one that is due
│   ├── Replayed              a message that was answered before
│   ├── ProtocolViolation     a peer or the server breaks secure aggregation; nothing more is revealed
│   ├── SumOutOfRange         an unmasked sum that cannot be what was masked
│   └── CheckpointConflict    another writer holds this run
├── PolicyError           a policy document is invalid or proves false
│   └── InvariantViolated
├── ServiceUnreachable    a device gets no answer from the service: whatever needs one is refused
└── ServiceError          the service does not answer this request; the text names no one
    ├── NotAuthenticated      no valid API key and no valid signature
    │   └── PossessionNotProven   a key is enrolled by whoever holds it: the enrolment is not signed with it
    ├── NotAllowed            the caller's role may not do this
    ├── SecondOfficerNeeded   one person may not decide this alone
    ├── NotPending            what was to be decided is decided already
    ├── PackageGone           a data subject's package that is no longer, or never was, there to be fetched
    ├── NotFound              nothing of that name
    ├── PreconditionFailed    the document has changed since it was read
    ├── RequestReplayed       a signed request that was accepted before
    ├── RateLimited           this credential has used up its quota
    ├── IdempotencyMismatch   an Idempotency-Key that came before with another request
    ├── RequestInFlight       the same request is still being worked on
    ├── AlreadyMeasured       a day whose results were released before
    ├── TokenForged           a follow-up token that this service did not make
    ├── TokenReplayed         a follow-up that was reported before
    ├── TokenOutOfOrder       a click before its impression, a conversion before its click
    ├── TokenLate             a follow-up after its window
    └── StorageUnavailable    the database does not answer
"""

from __future__ import annotations

from common.taxonomy import RefusalReason, SignalReason


class ReticentError(Exception):
    """Base of all our errors. ``str(error)`` is safe to show and to log: no personal data goes in."""

    @property
    def name(self) -> str:
        """The stable, public name of the error: its class name."""
        return type(self).__name__


class InputError(ReticentError):
    """Input from outside is wrong; the message says how to mend it."""


class MalformedInput(InputError):
    """Bytes that cannot be decoded or that violate their schema."""


class TruncatedFile(InputError):
    """A file that stops before its end."""


class UnknownColumn(InputError):
    """A data set description names a column that the data lacks."""


class InvalidLabel(InputError):
    """A label outside {0, 1}."""


class UnknownPurpose(InputError):
    """A purpose id outside the closed list."""


class UnknownNotice(InputError):
    """A privacy notice that was never published here."""


class NoticeExpired(InputError):
    """A privacy notice that is no longer current: the person must be shown the new one."""


class AskedTooEarly(InputError):
    """A person who refused or withdrew may not be asked again yet in their jurisdiction."""


class UndecodableSignal(InputError):
    """A privacy signal that cannot be read to its last bit. It counts as an objection to everything."""

    def __init__(self, reason: SignalReason) -> None:
        """Store the reason, which is also the text: nothing of the signal itself is in it."""
        super().__init__(reason.value)
        self.reason = reason


class EmptyDevice(InputError):
    """A device with nothing to learn from."""


class OneClassData(InputError):
    """Only positives or only negatives: nothing can be learnt or measured."""


class StoreError(ReticentError):
    """The device's own storage failed."""


class LedgerRolledBack(StoreError):
    """The privacy ledger is older than the spend that was anchored beside it, or it is gone."""


class VaultCorrupt(StoreError):
    """A stored record does not authenticate or does not decode."""


class WrongKey(StoreError):
    """The key given does not belong to this vault."""


class DeviceErased(StoreError):
    """The device's key was destroyed; its records cannot be read by anyone."""


class TrustError(ReticentError):
    """Something that must be verified before use did not verify."""


class TamperedModel(TrustError):
    """A model's signature or digest does not match."""


class UnknownSigner(TrustError):
    """A signature by a key that is not pinned."""


class InvalidReceipt(TrustError):
    """A consent receipt does not verify."""


class InvalidProof(TrustError):
    """A proof of the transparency log does not lead to its root."""


class InvalidCheckpoint(TrustError):
    """A checkpoint of the transparency log does not verify."""


class InvalidSignature(TrustError):
    """A signed request does not verify."""


class ContractError(ReticentError):
    """Two sides disagree about the form of what they exchange."""


class SpecMismatch(ContractError):
    """Features were made by another specification than the model's."""


class ShapeMismatch(ContractError):
    """An array has another shape than declared."""


class DtypeMismatch(ContractError):
    """An array has another dtype than declared."""


class DigestMismatch(ContractError):
    """Bytes do not hash to their declared digest."""


class NonFiniteValue(ContractError):
    """NaN or infinity where a finite number was promised."""


class OutOfRange(ContractError):
    """A number beyond its declared bounds."""


class Refused(ReticentError):
    """A gate said no. Carries a closed reason; free text would leak."""

    def __init__(self, reason: RefusalReason, message: str | None = None) -> None:
        """Store the reason; the message defaults to the reason's own words."""
        super().__init__(message or reason.explanation)
        self.reason = reason


class ConsentRefused(Refused):
    """No live consent for the purpose."""


class BudgetExhausted(Refused):
    """The release would pass the privacy budget's cap."""


class ReleasesExhausted(BudgetExhausted):
    """The device has made as many releases of this kind as the privacy budget document lets it make."""


class EgressRefused(Refused):
    """The egress door did not let a message out."""


class RoundError(ReticentError):
    """A federated round cannot go on."""


class TooFewSurvivors(RoundError):
    """Fewer contributions arrived than the policy demands."""


class OutOfStage(RoundError):
    """A message belongs to another stage of the protocol than the one that is due."""


class Replayed(RoundError):
    """A message was answered before; a second answer could cost privacy."""


class ProtocolViolation(RoundError):
    """A peer or the server breaks the rules of secure aggregation; nothing more is revealed in this session."""


class SumOutOfRange(RoundError):
    """An unmasked sum lies where no honest sum can: it wrapped around, or somebody sent more than the clip allows."""


class CheckpointConflict(RoundError):
    """Another writer holds the checkpoint of this run, or it belongs to another configuration."""


class PolicyError(ReticentError):
    """A policy document is invalid."""


class InvariantViolated(PolicyError):
    """Policy documents contradict each other or do not prove what they declare."""


class ServiceUnreachable(ReticentError):
    """A device got no answer from the service; whatever needs one is refused."""


class ServiceError(ReticentError):
    """The service does not answer this request. The text names no one and echoes nothing."""


class NotAuthenticated(ServiceError):
    """No API key and no signature, or none that is valid."""


class PossessionNotProven(NotAuthenticated):
    """An enrolment that is not signed with the very key that it enrols."""


class NotAllowed(ServiceError):
    """The caller's role may not do this, or its key is narrowed to less."""


class SecondOfficerNeeded(NotAllowed):
    """One person may not decide this alone: a second privacy officer has to."""


class NotPending(ServiceError):
    """What was to be decided or cancelled is no longer pending."""


class PackageGone(ServiceError):
    """A data subject's package that was never made, or whose time is over."""


class NotFound(ServiceError):
    """Nothing of that name exists."""


class NotInThisState(ServiceError):
    """A campaign or a creative is in a state that does not allow this."""


class ExperimentRunning(ServiceError):
    """An experiment is running: what it compares may not change under it."""


class PreconditionFailed(ServiceError):
    """The document has changed since it was read."""


class RequestReplayed(ServiceError):
    """A signed request that was accepted before: its nonce must not come again."""


class RateLimited(ServiceError):
    """This credential has used up its quota."""

    def __init__(self, retry_after_s: int) -> None:
        """Store for how long there is no use in asking again."""
        super().__init__("too many requests with this credential; see the RateLimit-Policy header")
        self.retry_after_s = max(1, retry_after_s)


class IdempotencyMismatch(ServiceError):
    """An Idempotency-Key that came before with another request."""


class RequestInFlight(ServiceError):
    """The same request is still being worked on."""


class AlreadyMeasured(ServiceError):
    """A day whose results were released before; the stored figures stand."""


class TokenForged(ServiceError):
    """A follow-up token that this service did not make."""


class TokenReplayed(ServiceError):
    """A follow-up that was reported before."""


class TokenOutOfOrder(ServiceError):
    """A click before its impression, or a conversion before its click."""


class TokenLate(ServiceError):
    """A follow-up after its window."""


class StorageUnavailable(ServiceError):
    """The database does not answer; whatever needs it is refused."""
