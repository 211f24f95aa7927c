"""What the demo starts is what the Procfile says."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.demo.procfile import Entry, entries, parsed

BUILT_IN = (Entry("web", ("web",)), Entry("worker", ("worker",)), Entry("beat", ("beat",)))


def test_repository_procfile_starts_web_worker_and_beat() -> None:
    """The release process is left out: the demo migrates by itself."""
    assert entries() == BUILT_IN


def test_procfile_at_hand_comes_first(tmp_path: Path) -> None:
    """A Procfile that splits the lanes is started as it stands."""
    (tmp_path / "Procfile").write_text(
        "# ours\n\nweb: python -m relay web\nbills: python -m relay worker --lanes billing\n"
    )
    assert entries([tmp_path]) == (Entry("web", ("web",)), Entry("bills", ("worker", "--lanes", "billing")))
    assert entries([tmp_path])[1].command == "worker"


@pytest.mark.parametrize("text", ["web: gunicorn shop", "web: python -m relay", "web python -m relay web", ""])
def test_procfile_of_another_project_is_left_alone(tmp_path: Path, text: str) -> None:
    """Nothing is started that is not ours: the demo goes on to its own."""
    (tmp_path / "Procfile").write_text(text)
    assert parsed(text) == ()
    assert entries([tmp_path]) == BUILT_IN
