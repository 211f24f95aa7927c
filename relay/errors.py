"""Every error that Switchhook raises on purpose.

SwitchhookError                      500 internal_error
├── SettingsError                    -   a variable is missing or makes no sense; raised at start only
├── StatementRefused                 500 statement_refused     Postgres would refuse it again (in relay.store.database)
├── EventIgnored                     200 event_ignored         a route that takes one type of event was sent another
├── BadRequest                       400 validation_error      (names the field)
│   ├── PayloadError                 400 body_invalid          the provider's body lacks a fact that is needed
│   ├── TargetRefused                400 target_refused        an address that must not be called (also a ValueError)
│   ├── ValidationFailed             400 validation_error      names every field that is wrong, where there are several
│   └── BillingError                 400 billing_value_invalid money, prices and rate cards (in billing.money)
├── Unauthorized                     401 signature_invalid
├── BudgetExceeded                   402 budget_exceeded       a budget with a hard limit has not enough left
├── Forbidden                        403 insufficient_permissions
├── NotFound                         404 not_found
├── Conflict                         409 conflict
│   ├── ProviderNotConfigured        409 provider_not_configured  there is no key for this provider
│   └── SignedUrlGiven               409 signed_url_given      that URL opens the session still (in relay.agents)
├── ContentGone                      410 content_gone          it was delivered, has expired, or was erased
├── BodyTooLarge                     413 body_too_large
├── EncodingRefused                  415 content_encoding_refused
├── KeyReused                        422 idempotency_key_reused
├── RateLimited                      429 rate_limited
├── NotImplementedYet                501 not_implemented
├── ContextFailed                    502 context_failed        the customer's server gave an agent no usable answer
│   └── ContextTimedOut              504 context_timeout
├── ProviderFailed                   502 provider_failed       a provider's API refused; the same again would be too
├── Unavailable                      503 unavailable           nothing was stored; the sender should try again
│   ├── OverQuota                    503 over_quota            this account holds too many undelivered bytes
│   ├── BodiesFull                   503 bodies_full           this process is reading too many large bodies
│   ├── ContextBusy                  503 context_busy          too many agents wait for their answers
│   ├── ApiBusy                      503 api_busy              too many requests of the API, or of one account, at once
│   └── ProviderUnavailable          503 provider_unavailable  a provider's API does not answer, or is busy
└── LoopDetected                     508 loop_detected         our own delivery came back to us

`code` is stable and may be shown to tenants; the text says what to do next. Text never quotes a body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


class SwitchhookError(Exception):
    """Something went wrong inside Switchhook; the log of this moment says more."""

    status: ClassVar[int] = 500
    code: str = "internal_error"
    retry_after_seconds: int | None = None

    def __init__(self, detail: str | None = None, *, code: str | None = None, field: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").partition("\n\n")[0].strip()
        self.field = field
        if code is not None:
            self.code = code
        super().__init__(self.detail)


class SettingsError(SwitchhookError):
    """A setting is missing or makes no sense; it is named in the text."""

    code = "settings_invalid"


class EventIgnored(SwitchhookError):
    """This route takes no events of this type. Nothing was stored, and sending it again changes nothing."""

    status = 200
    code = "event_ignored"


class BadRequest(SwitchhookError):
    """The request cannot be understood; the field that is wrong is named.

    `issues` are the fields, unless the error has a code of its own, which says more.
    """

    status = 400
    code = "validation_error"

    def __init__(self, detail: str | None = None, *, code: str | None = None, field: str | None = None) -> None:
        super().__init__(detail, code=code, field=field)
        is_named = field is not None and self.code == BadRequest.code
        self.issues: tuple[Issue, ...] = (Issue(field or "", self.detail, "value_error"),) if is_named else ()


class PayloadError(BadRequest):
    """The body is not JSON, or a field that is needed is absent or has the wrong type."""

    code = "body_invalid"


class TargetRefused(BadRequest, ValueError):
    """This URL cannot be a destination: it must be a public http(s) address."""

    code = "target_refused"


@dataclass(frozen=True, slots=True)
class Issue:
    """What is wrong with one field: its path, what it must be, and a stable code."""

    path: str
    message: str
    code: str

    def to_json(self) -> dict[str, str]:
        """As it is shown."""
        return {"path": self.path, "message": self.message, "code": self.code}


class ValidationFailed(BadRequest):
    """The request has fields that are wrong; each is named."""

    def __init__(self, issues: Sequence[Issue]) -> None:
        said = "; ".join(f"{issue.path}: {issue.message}" if issue.path else issue.message for issue in issues)
        super().__init__(said or None, field=issues[0].path or None if issues else None)
        self.issues = tuple(issues)


class Unauthorized(SwitchhookError):
    """The proof of the sender is missing or wrong; check the secret of this source or template."""

    status = 401
    code = "signature_invalid"


class BudgetExceeded(SwitchhookError):
    """A budget with a hard limit has not enough left for this session: raise it, or wait for the next month."""

    status = 402
    code = "budget_exceeded"


class Forbidden(SwitchhookError):
    """This API key may not do this."""

    status = 403
    code = "insufficient_permissions"


class NotFound(SwitchhookError):
    """There is nothing here by this id."""

    status = 404
    code = "not_found"


class Conflict(SwitchhookError):
    """This already exists, or was changed by someone else meanwhile."""

    status = 409
    code = "conflict"

    def __init__(
        self,
        detail: str | None = None,
        *,
        code: str | None = None,
        field: str | None = None,
        constraint: str | None = None,
    ) -> None:
        super().__init__(detail, code=code, field=field)
        # The rule of the database that refused it, by its name, where one did.
        self.constraint = constraint


class ProviderNotConfigured(Conflict):
    """There is no API key for this provider: store your own, or have the operator set one."""

    code = "provider_not_configured"


class ContentGone(SwitchhookError):
    """The content is not kept any more: it was delivered, its retention has ended, or it was erased."""

    status = 410
    code = "content_gone"


class KeyReused(SwitchhookError):
    """This Idempotency-Key was sent with another request; take a new one for each."""

    status = 422
    code = "idempotency_key_reused"


class RateLimited(SwitchhookError):
    """This API key, or its account, has made as many requests as it may in a minute; Retry-After says when to go on."""

    status = 429
    code = "rate_limited"

    def __init__(self, detail: str | None = None, *, code: str | None = None, retry_after_seconds: int) -> None:
        super().__init__(detail, code=code)
        self.retry_after_seconds = retry_after_seconds


class NotImplementedYet(SwitchhookError):
    """This is not built yet."""

    status = 501
    code = "not_implemented"


class BodyTooLarge(SwitchhookError):
    """The body is larger than this route takes."""

    status = 413
    code = "body_too_large"


class EncodingRefused(SwitchhookError):
    """Send the body without Content-Encoding; signatures are checked over the plain bytes."""

    status = 415
    code = "content_encoding_refused"


class LoopDetected(SwitchhookError):
    """This is a delivery of this Switchhook: one of its endpoints is this address. Give it the receiver's own."""

    status = 508
    code = "loop_detected"


class ContextFailed(SwitchhookError):
    """The template's endpoint gave no answer that could be passed on: it must be 2xx, whole, and at most 64 KiB."""

    status = 502
    code = "context_failed"


class ContextTimedOut(ContextFailed):
    """The template's endpoint did not answer within its deadline."""

    status = 504
    code = "context_timeout"


class Unavailable(SwitchhookError):
    """Nothing was stored; try again shortly."""

    status = 503
    code = "unavailable"
    retry_after_seconds = 5


class ProviderFailed(SwitchhookError):
    """The provider's API refused this; sending the same again would change nothing.

    `provider_status` is its HTTP status, None when its answer made no sense; `fields` the fields of our request that
    it named, as far as it named any. Its texts are not kept: they may quote what was sent.
    """

    status = 502
    code = "provider_failed"

    def __init__(
        self, detail: str | None = None, *, code: str | None = None, provider_status: int | None = None,
        fields: Sequence[str] = (),
    ) -> None:  # fmt: skip
        super().__init__(detail or "the provider's API refused this", code=code)
        self.provider_status = provider_status
        self.fields = tuple(fields)


class ProviderUnavailable(Unavailable):
    """The provider's API does not answer, or is too busy; try again shortly."""

    code = "provider_unavailable"


class OverQuota(Unavailable):
    """This account holds as many undelivered bytes as it may; they drain as its endpoints answer."""

    code = "over_quota"
    retry_after_seconds = 60


class BodiesFull(Unavailable):
    """This process is reading as many bytes of large bodies as it may; send it again."""

    code = "bodies_full"


class ApiBusy(Unavailable):
    """This account, or this server, works on as many requests at once as it may; send it again."""

    code = "api_busy"
    retry_after_seconds = 1


class ContextBusy(Unavailable):
    """As many agents as may wait for answers of their customers' servers; ask again."""

    code = "context_busy"
    retry_after_seconds = 1
