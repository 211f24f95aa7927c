"""Every error that Switchhook raises on purpose.

SwitchhookError                      500 internal_error
├── SettingsError                    -   a variable is missing or makes no sense; raised at start only
├── StatementRefused                 500 statement_refused     Postgres would refuse it again (in relay.store.database)
├── BadRequest                       400 bad_request           (names the field)
│   ├── PayloadError                 400 body_invalid          the provider's body lacks a fact that is needed
│   ├── TargetRefused                400 target_refused        an address that must not be called (also a ValueError)
│   └── BillingError                 400 billing_value_invalid money, prices and rate cards (in billing.money)
├── Unauthorized                     401 signature_invalid
├── NotFound                         404 not_found
├── Conflict                         409 conflict
├── BodyTooLarge                     413 body_too_large
├── EncodingRefused                  415 content_encoding_refused
└── Unavailable                      503 unavailable           nothing was stored; the sender should try again
    └── OverQuota                    503 over_quota            this account holds too many undelivered bytes

`code` is stable and may be shown to tenants; the text says what to do next. Text never quotes a body.
"""

from __future__ import annotations

from typing import ClassVar


class SwitchhookError(Exception):
    """Something went wrong inside Switchhook; the log of this moment says more."""

    status: ClassVar[int] = 500
    code: str = "internal_error"
    retry_after_seconds: int | None = None

    def __init__(self, detail: str | None = None, *, code: str | None = None, field: str | None = None) -> None:
        self.detail = detail or (type(self).__doc__ or "").strip()
        self.field = field
        if code is not None:
            self.code = code
        super().__init__(self.detail)


class SettingsError(SwitchhookError):
    """A setting is missing or makes no sense; it is named in the text."""

    code = "settings_invalid"


class BadRequest(SwitchhookError):
    """The request cannot be understood; the field that is wrong is named."""

    status = 400
    code = "bad_request"


class PayloadError(BadRequest):
    """The body is not JSON, or a field that is needed is absent or has the wrong type."""

    code = "body_invalid"


class TargetRefused(BadRequest, ValueError):
    """This URL cannot be a destination: it must be a public http(s) address."""

    code = "target_refused"


class Unauthorized(SwitchhookError):
    """The proof of the sender is missing or wrong; check the secret of this source or template."""

    status = 401
    code = "signature_invalid"


class NotFound(SwitchhookError):
    """There is nothing here by this id."""

    status = 404
    code = "not_found"


class Conflict(SwitchhookError):
    """This already exists, or was changed by someone else meanwhile."""

    status = 409
    code = "conflict"


class BodyTooLarge(SwitchhookError):
    """The body is larger than this route takes; raise SWITCHHOOK_MAX_BODY if it should be taken."""

    status = 413
    code = "body_too_large"


class EncodingRefused(SwitchhookError):
    """Send the body without Content-Encoding; signatures are checked over the plain bytes."""

    status = 415
    code = "content_encoding_refused"


class Unavailable(SwitchhookError):
    """Nothing was stored; try again shortly."""

    status = 503
    code = "unavailable"
    retry_after_seconds = 5


class OverQuota(Unavailable):
    """This account holds as many undelivered bytes as it may; they drain as its endpoints answer."""

    code = "over_quota"
    retry_after_seconds = 60
