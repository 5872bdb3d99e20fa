"""What can go wrong in the domain, as one tree. It knows nothing of HTTP or exit codes: `api/errors.py` has that table.

    DomainError
    ├── Invalid             what was asked makes no sense as it stands
    ├── NotFound            no such thing, or none that the caller may know of
    │   └── NotSigned       the key is kept elsewhere, and signs other things
    ├── Unauthorized        no valid token
    ├── Forbidden           a valid token without the right
    ├── TicketRefused       a ticket that was not made here, or not for this
    ├── Conflict            the world is in another state than the caller believed
    │   ├── Immutable       it is closed for good and the request would change it
    │   ├── PolicyRefused   the app's policy does not take it there
    │   ├── OffsetMismatch  an upload goes on somewhere else
    │   └── Locked          somebody else is writing to it now
    ├── Gone                it was there and has expired
    ├── Withdrawn           it was offered and no longer is
    ├── TooLarge            over a limit
    ├── DigestMismatch      the bytes are not the ones that were announced
    ├── NoSpace             the disk is too full to take it
    ├── TooManyAttempts     guesses at a password, too often
    ├── Busy                try again a little later
    └── Damaged             what the store should have is gone or is not what it was

Each carries `detail` (what is so) and `remedy` (what to do). A broken promise between our own functions is no DomainError: it
raises RuntimeError or fails an assert, and nobody catches it.
"""

from typing import Any


class DomainError(Exception):
    """Base of everything that a caller of the domain can cause. `extra` holds JSON values for the wire."""

    code = "invalid_request"

    def __init__(self, detail: str, *, remedy: str = "", **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.remedy = remedy
        self.extra = extra


class Invalid(DomainError):
    """The request makes no sense as it stands."""


class NotFound(DomainError):
    """No such thing, or none that the caller may know of: both read the same."""

    code = "not_found"


class NotSigned(NotFound):
    """There is no signature of this by itself, and the server cannot make one: its key is kept elsewhere."""

    code = "not_signed"


class Unauthorized(DomainError):
    """Token missing, unknown, expired or revoked."""

    code = "unauthorized"


class Forbidden(DomainError):
    """A valid token without the right that is named in `extra["right"]`."""

    code = "forbidden"


class TicketRefused(DomainError):
    """A ticket that was not made here, was made for something else, or has expired."""

    code = "ticket_refused"


class Conflict(DomainError):
    """The world is in another state than the caller believed."""

    code = "conflict"


class Immutable(Conflict):
    """Closed for good, and the request would change it."""

    code = "immutable"


class PolicyRefused(Conflict):
    """The app's policy does not take it there; `extra["findings"]` says why."""

    code = "policy_failed"


class OffsetMismatch(Conflict):
    """An append names another offset than the one that is durable; `extra["expected_offset"]` is that one, in bytes."""

    code = "upload_offset_mismatch"


class Locked(Conflict):
    """Another request is writing to the same upload."""

    code = "upload_locked"


class Gone(DomainError):
    """It was there and has expired or was consumed."""

    code = "upload_expired"


class Withdrawn(DomainError):
    """It was offered and no longer is: a release was revoked or removed, a link has ended. Says why."""

    code = "gone"


class TooLarge(DomainError):
    """Over a limit in bytes."""

    code = "too_large"


class DigestMismatch(DomainError):
    """The bytes are not the ones that were announced."""

    code = "digest_mismatch"


class NoSpace(DomainError):
    """The disk is too full to take it."""

    code = "insufficient_storage"


class TooManyAttempts(DomainError):
    """Guesses at a password, too often; `extra["retry_after"]` is in seconds."""

    code = "rate_limited"


class Busy(DomainError):
    """Try again a little later."""

    code = "busy"


class Damaged(DomainError):
    """The store has lost the bytes, or they are no longer the ones that were published."""

    code = "blob_damaged"


class BadSettings(Exception):
    """The configuration cannot be used; the message is the one line that the operator sees."""
