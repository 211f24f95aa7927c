"""One page of metrics of many processes: each family once, its samples told apart by the label `process`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from prometheus_client import Metric, generate_latest
from prometheus_client.registry import Collector

from relay.telemetry.samples import SampleSet

LABEL: Final = "process"
# What follows a family's name in the names of its samples, by its type.
_SUFFIXES: Final = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_count", "_sum")}


class Page(Collector):
    """The families of a registry with the samples of this process, and of the `others` by the names of theirs.

    Nothing is added up: sums over processes that come and go would run backwards. What belongs to no family of this
    registry is left out, as while a new release is being rolled out: only a process that has it knows its type.
    """

    def __init__(self, registry: Collector, process: str, others: Mapping[str, SampleSet]) -> None:
        self._registry = registry
        self._process = process
        self._others = others

    def collect(self) -> Iterator[Metric]:
        """The families, each with everybody's samples."""
        families = []
        family_of: dict[str, Metric] = {}
        for own in self._registry.collect():
            family = Metric(own.name, own.documentation, own.type)
            for sample in own.samples:
                family.add_sample(sample.name, {**sample.labels, LABEL: self._process}, sample.value)
            for suffix in _SUFFIXES.get(own.type, ()):
                family_of[own.name + suffix] = family
            families.append(family)
        for process, samples in self._others.items():
            for name, labels, value in samples.read():
                if name in family_of:
                    family_of[name].add_sample(name, {**labels, LABEL: process}, value)
        yield from families

    def text(self) -> bytes:
        """The page in the Prometheus text format."""
        return generate_latest(self)
