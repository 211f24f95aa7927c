"""What an allocation really takes: Redis counts in `used_memory` what its allocator set aside, not what was asked for.

`INFO memory` names the allocator as `mem_allocator`: jemalloc in Redis' own builds for Linux and with most providers,
libc in others (the embedded one of this project among them).
"""

from __future__ import annotations

from typing import Final, Literal, get_args

Allocator = Literal["jemalloc", "libc"]
ALLOCATORS: Final[tuple[Allocator, ...]] = get_args(Allocator)

# jemalloc's small classes are multiples of 16 up to 128; from there four classes lead to each power of two (its manual,
# "Size classes").
_JEMALLOC_STEP: Final = 16
_JEMALLOC_LINEAR: Final = 128
_JEMALLOC_CLASSES: Final = 4
# glibc's chunks are multiples of 16 with 8 bytes of its own in each (malloc_usable_size(3) of what Redis asks for).
_LIBC_STEP: Final = 16
_LIBC_OWN: Final = 8


def allocated(size_bytes: int, allocator: Allocator) -> int:
    """What an allocation of so many bytes counts for."""
    if allocator == "libc":
        return _rounded(size_bytes + _LIBC_OWN, _LIBC_STEP) - _LIBC_OWN
    if size_bytes <= _JEMALLOC_LINEAR:
        return _rounded(size_bytes, _JEMALLOC_STEP)
    power = 1 << (size_bytes - 1).bit_length()  # the next power of two, itself if it is one
    return _rounded(size_bytes, power // 2 // _JEMALLOC_CLASSES)


def _rounded(size_bytes: int, step: int) -> int:
    return -(-size_bytes // step) * step
