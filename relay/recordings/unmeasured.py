"""Why a recording has no duration: a code for its account, another for operators, and whether to try again."""

from __future__ import annotations

from typing import Final

from relay.errors import SwitchhookError

NOT_AUDIO: Final = "not_audio"
NO_DURATION: Final = "no_duration"
TOO_LARGE: Final = "too_large"
TRUNCATED: Final = "truncated"


class Unmeasured(SwitchhookError):
    """This recording could not be measured.

    `code` is what its account sees, `detail_code` what operators see; neither holds text of the far side. `permanent`:
    trying again would change nothing.
    """

    code = NOT_AUDIO

    def __init__(self, code: str, *, permanent: bool, detail_code: str | None = None) -> None:
        super().__init__("this recording could not be measured", code=code)
        self.permanent = permanent
        self.detail_code = detail_code or code


class Interrupted(SwitchhookError):
    """This process is asked to end; another one measures the recording."""

    code = "interrupted"
