"""What an operator is told when an act is not carried out: one sentence each."""

from __future__ import annotations


class RecoveryError(Exception):
    """The act was not carried out, and nothing was changed. The text is a sentence for the operator."""


class LetterMissingError(RecoveryError):
    """No parked event has this id."""

    def __init__(self, event: object) -> None:
        super().__init__(
            f"No parked event has the id {event}: it was handled or discarded meanwhile, or never parked."
        )


class ReplayMissingError(RecoveryError):
    """No replay has this number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"There is no replay {number}.")


class NothingToReplayError(RecoveryError):
    """No dead event is meant."""

    def __init__(self) -> None:
        super().__init__("No dead event matches: there is nothing to replay.")


class NothingToRepublishError(RecoveryError):
    """No published event is meant."""

    def __init__(self) -> None:
        super().__init__(
            "The outbox has no published event of that kind: what was published long ago is kept no longer "
            "(ORDERFLOW_OUTBOX_KEEP_HOURS)."
        )


class ReplayStateError(RecoveryError):
    """A replay cannot be paused or resumed as it stands."""


class EditRefusedError(RecoveryError):
    """The new payload is not taken."""


class ConfirmationNeededError(RecoveryError):
    """The act must be confirmed, or needs a reason."""


class NoSuchConsumerError(RecoveryError):
    """The service has no such consumer, or handles no such event. The text says what it has."""


class EventUnreadError(RecoveryError):
    """The service does not read such an event, or the event is none. The text says which."""


class KeyBusyError(RecoveryError):
    """Live traffic holds the event's key for longer than an operator is made to wait."""

    def __init__(self, key: str) -> None:
        super().__init__(f"The key {key} is being worked on by live traffic: try again in a moment.")
