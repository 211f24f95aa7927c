"""How long recordings last, by format: to the millisecond where the format tells, and nothing where it does not."""

from __future__ import annotations

import io
from decimal import Decimal

import pytest

from relay.recordings.measure import measured
from relay.recordings.unmeasured import Unmeasured
from tests import audio

MINUTE = 60_000


@pytest.mark.parametrize(
    ("file", "seconds", "kind"),
    [
        pytest.param(audio.wav(61_500), "61.500", "wav", id="16-bit PCM"),
        pytest.param(audio.wav(1), "0.001", "wav", id="a millisecond"),
        pytest.param(audio.mu_law(90_125), "90.125", "wav", id="G.711 without fact, as telephony has it"),
        pytest.param(audio.streamed(MINUTE), "60.000", "wav", id="streamed: 4 GiB are declared"),
        pytest.param(audio.mu_law(MINUTE, declared=0), "60.000", "wav", id="streamed: nothing is declared"),
        pytest.param(audio.mu_law(MINUTE)[: 44 + 8000], "1.000", "wav", id="cut off after a second"),
        pytest.param(audio.gsm(MINUTE), "60.000", "wav", id="GSM, by its fact chunk"),
        pytest.param(audio.flac(16_000 * 61 + 8), "61.001", "flac", id="FLAC: half a millisecond rounds up"),
        pytest.param(audio.vorbis(16_000 * 30 + 160), "30.010", "ogg", id="Vorbis"),
        pytest.param(audio.opus(48_000 * 125), "125.000", "opus", id="Opus: without what comes before the sound"),
        # 1000 frames of 1152 samples at 44.1 kHz.
        pytest.param(audio.mp3(1000), "26.122", "mp3", id="MP3 of one bit rate: by its size"),
        pytest.param(audio.mp3(1000, told=True), "26.122", "mp3", id="MP3 that tells its frames"),
        pytest.param(b"ID3\x04\x00\x00\x00\x00\x00\x0a" + bytes(10) + audio.mp3(1000), "26.122", "mp3", id="ID3 first"),
        pytest.param(audio.m4a(61_500), "61.500", "m4a", id="M4A, its description at the end"),
        pytest.param(audio.m4a(44_100 * 7 + 22_050, scale=44_100), "7.500", "m4a", id="M4A in samples"),
        pytest.param(audio.flac(1), "0.001", "flac", id="never less than a millisecond: something was said"),
    ],
)
def test_durations(file: bytes, seconds: str, kind: str) -> None:
    """Decimal text with three places, and the name of the format."""
    found = measured(io.BytesIO(file))
    assert (str(found.seconds), found.format) == (seconds, kind)


@pytest.mark.parametrize(
    ("file", "code"),
    [
        pytest.param(b"", "not_audio", id="empty"),
        pytest.param(b"<html>not found</html>" * 50, "not_audio", id="a page"),
        pytest.param(b"\x1f\x8b\x08\x00" + bytes(100), "not_audio", id="gzip"),
        pytest.param(b"RIFF\x00\x00\x00\x00WAVEfmt \x10\x00\x00\x00\x01", "not_audio", id="a broken chunk"),
        pytest.param(b"fLaC\x00", "no_duration", id="FLAC that ends in its header"),
        pytest.param(b"fLaC\x80\x00\x00\x22\x00\x00", "not_audio", id="FLAC, a broken block"),
        pytest.param(b"OggS" + bytes(5), "no_duration", id="Ogg that ends in its header"),
        pytest.param(b"FORM\x00\x00\x00\x04AIFF", "not_audio", id="AIFF is none of the formats"),
        pytest.param(audio.wav(0), "no_duration", id="WAVE without sound"),
        pytest.param(audio.riff(), "no_duration", id="WAVE without anything"),
        pytest.param(audio.flac(0), "no_duration", id="FLAC of unknown length"),
        pytest.param(audio.m4a(0), "no_duration", id="fragmented MPEG-4: its length is nowhere"),
        pytest.param(audio.m4a(5, scale=0), "no_duration", id="a clock that stands"),
        pytest.param(b"\xff\xfb" + b"\xff" * 5000, "no_duration", id="only looks like MP3"),
    ],
)
def test_what_has_no_duration(file: bytes, code: str) -> None:
    """A code, and never 0 seconds; trying again would change nothing."""
    with pytest.raises(Unmeasured) as refusal:
        measured(io.BytesIO(file))
    assert (refusal.value.code, refusal.value.permanent) == (code, True)


@pytest.mark.parametrize("file", [audio.wav(2000), audio.opus(96_000), audio.mp3(50), audio.m4a(9), audio.flac(9)])
def test_no_beginning_of_a_file_is_more_than_a_refusal(file: bytes) -> None:
    """Cut off anywhere, a file has a duration of at most its own or none; no other error comes out."""
    whole = measured(io.BytesIO(file)).seconds
    for size in range(min(len(file), 400)):
        try:
            assert measured(io.BytesIO(file[:size])).seconds <= max(whole, Decimal("0.1"))
        except Unmeasured:
            continue
