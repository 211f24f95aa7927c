"""The only module that holds conversation content.

`Content` is deliberately awkward: it cannot be printed, formatted, logged, pickled or compared by accident. The one
way to its bytes is `reveal()`, which reads as what it is at every place that uses it. Import contracts decide which
modules may reach this one.
"""

from __future__ import annotations

from typing import Any, NoReturn, final


class ContentLeak(TypeError):
    """Content was about to be turned into text, or to leave the process unsealed."""


@final
class Content:
    """The bytes of a conversation. Every accidental way out raises ContentLeak."""

    __slots__ = ("_raw",)

    def __init__(self, raw: bytes) -> None:
        self._raw = raw

    def reveal(self) -> bytes:
        """The bytes themselves: for verifying, sealing, signing and sending, nothing else."""
        return self._raw

    def __len__(self) -> int:
        return len(self._raw)

    def _refuse(self, *_: Any) -> NoReturn:
        raise ContentLeak("content must not be printed, formatted, pickled or compared")

    __repr__ = __str__ = _refuse
    __format__ = _refuse
    __bytes__ = _refuse
    __reduce__ = __reduce_ex__ = __getstate__ = _refuse
    __copy__ = __deepcopy__ = _refuse
    __eq__ = __hash__ = _refuse
    __iter__ = _refuse
