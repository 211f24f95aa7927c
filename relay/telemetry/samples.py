"""The samples of a process as it hands them to the others: metric names, label values and floats, and nothing else.

Help texts stay behind; whoever shows the samples has them in its own registry. A series' name and label names are
written once per set, and the order of a registry is kept, because the buckets of a histogram belong together.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from prometheus_client.registry import Collector

# A set of a busy process has a fifth of this. More would be a label that grows, and that must not fill Redis.
MOST_BYTES: Final = 32 * 1024
_MOST_LABEL_CHARS: Final = 128

_Name = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9_]*\Z", max_length=128)]
_Value = Annotated[str, msgspec.Meta(max_length=_MOST_LABEL_CHARS)]


class Sample(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One value. `series` is a place in the set's table of series."""

    series: Annotated[int, msgspec.Meta(ge=0)]
    label_values: tuple[_Value, ...]
    value: float


class SampleSet(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The samples of one process at one moment. A series is a sample's name with its label names."""

    series: tuple[tuple[_Name, tuple[_Name, ...]], ...] = ()
    samples: tuple[Sample, ...] = ()

    def read(self) -> list[tuple[str, dict[str, str], float]]:
        """Name, labels and value of every sample that fits its series, in order."""
        found = []
        for sample in self.samples:
            if sample.series < len(self.series):
                name, label_names = self.series[sample.series]
                if len(label_names) == len(sample.label_values):
                    found.append((name, dict(zip(label_names, sample.label_values, strict=True)), sample.value))
        return found


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(SampleSet).decode


def take(registry: Collector) -> SampleSet:
    """What a registry shows now. A label value of more than 128 characters is none of ours and is left out."""
    places: dict[tuple[str, tuple[str, ...]], int] = {}
    samples = []
    for family in registry.collect():
        for sample in family.samples:
            values = tuple(sample.labels.values())
            if all(len(value) <= _MOST_LABEL_CHARS for value in values):
                place = places.setdefault((sample.name, tuple(sample.labels)), len(places))
                samples.append(Sample(place, values, float(sample.value)))
    return SampleSet(tuple(places), tuple(samples))


def encode(samples: SampleSet) -> bytes:
    """MessagePack. Raises ValueError when it is over MOST_BYTES."""
    encoded = _encode(samples)
    if len(encoded) > MOST_BYTES:
        raise ValueError(f"a process may publish {MOST_BYTES} bytes of samples")
    return encoded


def decode(encoded: bytes) -> SampleSet | None:
    """The samples of another process; None if these bytes are none, as from a version that writes them otherwise."""
    if len(encoded) > MOST_BYTES:
        return None
    try:
        return _decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
