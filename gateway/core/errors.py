"""Everything that can go wrong, as one tree; `web/errors.py` gives each its HTTP status.

GatewayError
├── RequestRefused            the caller can mend it
│   ├── BadRequest            malformed or contradictory
│   ├── Unauthenticated       no or a wrong credential
│   ├── Forbidden             a good credential, but not for this
│   ├── NotFound              unknown, or another user's
│   ├── TooLarge              over a size limit
│   ├── UnsupportedMedia      a content type or encoding that is not read here
│   ├── Unprocessable         well-formed, but cannot be carried out
│   └── RateLimited           too many; says when to come back
├── UpstreamFailed            the LLM behind the gateway
│   ├── UpstreamUnreachable   no connection, or it broke before an answer
│   └── UpstreamTimedOut      no answer in time
├── Unavailable               a part of memory cannot be asked now. Never "nothing found".
│   ├── StoreUnavailable      Qdrant
│   ├── QueueUnavailable      Redis, as queue
│   ├── StateUnavailable      Redis, as shared state
│   ├── DirectoryUnavailable  the keyring of owners
│   ├── KeysUnavailable       the published keys that tokens are checked with
│   ├── EmbedderUnavailable   embeddings
│   └── ExtractorUnavailable  the distilling LLM; says whether the try counts
├── OwnerGone                 the incarnation was erased; what was meant for it is dropped
├── Unreadable                a sealed or stored record that cannot be opened
├── LeaseLost                 another worker holds this user's work now
├── OverBudget                a bound of queue or spool is reached; memory is skipped
└── SettingsError             a setting that stops the start (exit 2)
"""

from __future__ import annotations


class GatewayError(Exception):
    """Base of all errors of this program.

    `message` says what is wrong and what to do. `param` names the field, header or
    setting that is at fault; `code` is a short machine-readable reason.
    """

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


class RequestRefused(GatewayError):
    """The caller can mend it."""


class BadRequest(RequestRefused):
    """Malformed or contradictory input."""


class Unauthenticated(RequestRefused):
    """No credential, or a wrong one."""


class Forbidden(RequestRefused):
    """A good credential that does not allow this."""


class NotFound(RequestRefused):
    """Unknown here, or another user's: the two are never told apart."""


class TooLarge(RequestRefused):
    """Over a size limit."""


class UnsupportedMedia(RequestRefused):
    """A content type or encoding that is not read here."""


class Unprocessable(RequestRefused):
    """Well-formed, but it cannot be carried out."""


class RateLimited(RequestRefused):
    """Too many requests or tokens; `retry_after_s` seconds until the next try is worth it."""

    def __init__(self, message: str, *, retry_after_s: float, code: str | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class UpstreamFailed(GatewayError):
    """The LLM behind the gateway did not answer."""


class UpstreamUnreachable(UpstreamFailed):
    """No connection could be made, or it broke before an answer began."""


class UpstreamTimedOut(UpstreamFailed):
    """No answer, or no further byte, within the time set for it."""


class Unavailable(GatewayError):
    """A part of memory cannot be asked now. This is never the same as "nothing found"."""


class StoreUnavailable(Unavailable):
    """Qdrant does not answer, or refuses."""


class QueueUnavailable(Unavailable):
    """Redis, as the queue, does not answer."""


class SpoolUnavailable(Unavailable):
    """What waits on disk cannot be read or rewritten."""


class StateUnavailable(Unavailable):
    """Redis, as shared state, does not answer."""


class DirectoryUnavailable(Unavailable):
    """The keyring of owners does not answer."""


class KeysUnavailable(Unavailable):
    """The published keys that users' tokens are checked with cannot be had."""


class EmbedderUnavailable(Unavailable):
    """No embedding can be had now."""


class ExtractorUnavailable(Unavailable):
    """The distilling LLM gave no usable answer.

    `counts_as_try` is false where the fault lies outside the batch (429, 5xx, no
    connection): waiting may mend it and the batch is not to blame. `retry_after_s` is
    what the upstream asked for, in seconds, where it did.
    """

    def __init__(
        self,
        message: str,
        *,
        counts_as_try: bool,
        retry_after_s: float | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.counts_as_try = counts_as_try
        self.retry_after_s = retry_after_s


class OwnerGone(GatewayError):
    """The incarnation was erased; whatever was meant for it is dropped, not kept."""


class Unreadable(GatewayError):
    """A sealed or stored record cannot be opened: its key is gone or its bytes are damaged."""


class LeaseLost(GatewayError):
    """Another worker holds this user's work now; what was not yet applied is theirs to do."""


class OverBudget(GatewayError):
    """A bound of the queue or the spool is reached; memory is skipped, chat goes on."""


class SettingsError(GatewayError):
    """A setting that stops the start. `param` is the setting's dotted name."""
