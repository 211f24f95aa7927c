"""Samples of many processes: what they are called, what is handed over, and the one page that shows them."""

from __future__ import annotations

import msgspec
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics import parser as openmetrics_parser
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample as Shown

from relay.telemetry import metrics, samples
from relay.telemetry.page import Page
from relay.telemetry.process import kind_of, process_name
from relay.telemetry.samples import MOST_BYTES, Sample, SampleSet

HERE, THERE = "web@host:1", "worker@host:2"


class Counted:
    """A process that has counted something."""

    def __init__(self, *, outcome: str = "delivered", attempts: int = 1) -> None:
        self.registry = CollectorRegistry()
        counter = Counter("attempts", "Attempts.", ("outcome",), registry=self.registry)
        counter.labels(outcome).inc(attempts)
        Gauge("memory_bytes", "Memory.", registry=self.registry).set(1e6)
        Histogram("lag_seconds", "Lag.", buckets=(0.1, 1.0), registry=self.registry).observe(0.5)

    def hand_over(self) -> SampleSet:
        """Its samples as another process gets them."""
        found = samples.decode(samples.encode(samples.take(self.registry)))
        assert found is not None
        return found


def shown(text: bytes) -> list[Shown]:
    """The samples of a page."""
    return [sample for family in text_string_to_metric_families(text.decode()) for sample in family.samples]


def value(text: bytes, name: str, **labels: str) -> float | None:
    """The one value of a sample."""
    found = [sample.value for sample in shown(text) if (sample.name, sample.labels) == (name, labels)]
    assert len(found) < 2
    return found[0] if found else None


# -- names


@pytest.mark.parametrize(
    ("dyno", "host", "name"),
    [
        ("web.1", "f1f2-a3", "web@web.1:7"),  # comes back after a restart; the host's name does not
        ("web-1", "h", "web@web-1:7"),  # as Scalingo writes it
        ("", "relay-5d9f.local", "web@relay-5d9f.local:7"),
        ("", "my host/1", "web@my-host-1:7"),
        ("", "-_.", "web@unknown:7"),
        ("", "p" * 80 + "-x1", "web@" + "p" * 60 + "-x1:7"),  # replicas differ at the end
        ("web.1\n", "h", "web@h:7"),
        ('web"1', "h", "web@h:7"),
        ("d" * 64, "h", "web@h:7"),
    ],
)
def test_a_process_is_called_by_its_kind_its_place_and_its_pid(dyno: str, host: str, name: str) -> None:
    """The label is short and plain, whatever the platform says."""
    assert process_name("web", dyno=dyno, host=host, pid=7) == name
    assert kind_of(name) == "web"


@pytest.mark.parametrize(
    "name",
    ["", "web", "web@host", "web@:1", "shell@host:1", "web@host:1x", 'web@a"b:1', "web@host:1\n", "web@h:" + "1" * 11],
)
def test_nothing_else_is_a_process(name: str) -> None:
    """What cannot be the name of a process is shown as none."""
    assert kind_of(name) is None


# -- handing over


def test_hands_over_names_label_values_and_floats() -> None:
    """Neither help nor anything else of a metric leaves its process."""
    encoded = samples.encode(samples.take(Counted().registry))

    assert b"Attempts." not in encoded
    assert [name for name, _, _ in Counted().hand_over().read()] == [
        "attempts_total",
        "memory_bytes",
        *["lag_seconds_bucket"] * 3,
        "lag_seconds_count",
        "lag_seconds_sum",
    ]
    assert ("attempts_total", {"outcome": "delivered"}, 1.0) in Counted().hand_over().read()
    assert ("lag_seconds_bucket", {"le": "1.0"}, 1.0) in Counted().hand_over().read()


def test_every_metric_of_a_process_can_be_handed_over() -> None:
    """The real registry fits, with room to grow, and nothing of it is lost."""
    encoded = samples.encode(samples.take(metrics.REGISTRY))
    found = samples.decode(encoded)

    assert len(encoded) < MOST_BYTES / 4
    assert found is not None
    assert {name for name, _, _ in found.read()} == {
        sample.name for family in metrics.REGISTRY.collect() for sample in family.samples
    }


def test_a_label_value_that_is_none_of_ours_stays_behind() -> None:
    """One that is too long costs its own sample only."""
    names = [name for name, _, _ in Counted(outcome="x" * 129).hand_over().read()]
    assert "attempts_total" not in names
    assert "memory_bytes" in names


def test_a_registry_that_grows_is_not_handed_over() -> None:
    """Whatever goes wrong in a process, Redis is not filled by it."""
    registry = CollectorRegistry()
    counter = Counter("attempts", "Attempts.", ("outcome",), registry=registry)
    for number in range(4000):
        counter.labels(f"outcome_{number}").inc()
    with pytest.raises(ValueError, match=str(MOST_BYTES)):
        samples.encode(samples.take(registry))


@pytest.mark.parametrize(
    "written",
    [
        b"",
        b"not messagepack",
        msgspec.msgpack.encode({"series": [], "samples": []}),
        msgspec.msgpack.encode([[["name", []]], [[0, [], 1.0]], "and more"]),
        msgspec.msgpack.encode([[["name", []]], [[0, [], "words"]]]),
        msgspec.msgpack.encode([[["name", []]], [[0, ["x" * 129], 1.0]]]),
        msgspec.msgpack.encode([[["name\n", []]], [[0, [], 1.0]]]),
        msgspec.msgpack.encode([[["name", ['la"bel']]], [[0, ["value"], 1.0]]]),
        msgspec.msgpack.encode([[["name", []]], [[-1, [], 1.0]]]),
        msgspec.msgpack.encode([[["name", []]], [[0, [], 1.0]] * 20_000]),
    ],
)
def test_takes_nothing_else_for_samples(written: bytes) -> None:
    """Whoever can write to Redis can put no text on the page but label values."""
    assert samples.decode(written) is None


@pytest.mark.parametrize("sample", [Sample(1, ("delivered",), 1.0), Sample(0, (), 1.0), Sample(0, ("a", "b"), 1.0)])
def test_a_sample_that_does_not_fit_its_series_is_left_out(sample: Sample) -> None:
    """The others of its set are shown."""
    fitting = Sample(0, ("timeout",), 2.0)
    found = SampleSet((("attempts_total", ("outcome",)),), (sample, fitting))
    assert found.read() == [("attempts_total", {"outcome": "timeout"}, 2.0)]


# -- the page


def test_tells_the_samples_of_processes_apart() -> None:
    """Nothing is added up: whoever asks can do that."""
    text = Page(Counted(attempts=5).registry, HERE, {THERE: Counted(attempts=7).hand_over()}).text()

    assert value(text, "attempts_total", outcome="delivered", process=HERE) == 5
    assert value(text, "attempts_total", outcome="delivered", process=THERE) == 7
    assert {sample.labels.get("process") for sample in shown(text)} == {HERE, THERE}


def test_each_family_is_told_once() -> None:
    """One HELP and one TYPE for all processes, and all their samples behind: Prometheus refuses a page otherwise."""
    others = {f"worker@host:{pid}": Counted().hand_over() for pid in range(2, 5)}
    text = Page(Counted().registry, HERE, others).text()

    assert text.count(b"# HELP attempts_total ") == text.count(b"# TYPE attempts_total counter\n") == 1
    names = [line.split(b"{")[0] for line in text.splitlines() if not line.startswith(b"#")]
    assert names == [
        *[b"attempts_total"] * 4,
        *[b"memory_bytes"] * 4,
        *[b"lag_seconds_bucket", b"lag_seconds_bucket", b"lag_seconds_bucket", b"lag_seconds_count", b"lag_seconds_sum"]
        * 4,
    ]


def test_the_page_keeps_the_rules_of_openmetrics() -> None:
    """Its parser checks what Prometheus' own leaves to trust: groups that hang together, buckets that add up."""
    both = Page(Counted().registry, HERE, {THERE: Counted().hand_over()})
    strict = openmetrics.generate_latest(both).decode()  # type: ignore[no-untyped-call]
    families = list(openmetrics_parser.text_string_to_metric_families(strict))  # type: ignore[no-untyped-call]
    assert {family.name: len(family.samples) for family in families} == {
        "attempts": 2,
        "memory_bytes": 2,
        "lag_seconds": 10,
    }


def test_label_values_are_escaped() -> None:
    """Quotes, backslashes and line ends stay inside their value."""
    odd = 'a "quoted\\ value\nattempts_total 9'
    text = Page(Counted().registry, HERE, {THERE: Counted(outcome=odd).hand_over()}).text()
    assert value(text, "attempts_total", outcome=odd, process=THERE) == 1
    assert value(text, "attempts_total") is None


def test_what_this_process_does_not_know_is_left_out() -> None:
    """A newer worker's metric is shown as soon as web is new as well."""
    newer = SampleSet(
        (("attempts_total", ("outcome",)), ("brand_new_total", ()), ("attempts_created", ())),
        (Sample(0, ("delivered",), 3.0), Sample(1, (), 1.0), Sample(2, (), 1.0)),
    )
    text = Page(Counted().registry, HERE, {THERE: newer}).text()
    assert [sample.value for sample in shown(text) if sample.labels["process"] == THERE] == [3.0]


def test_another_process_cannot_speak_for_this_one() -> None:
    """The label is that of the key that the samples were found under."""
    posing = SampleSet((("memory_bytes", ("process",)),), (Sample(0, (HERE,), 9.0),))
    text = Page(Counted().registry, HERE, {THERE: posing}).text()
    assert value(text, "memory_bytes", process=HERE) == 1e6
    assert value(text, "memory_bytes", process=THERE) == 9.0
