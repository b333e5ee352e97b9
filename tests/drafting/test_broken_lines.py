"""Lines of JSON that are none cost their own row, not the file."""

from pathlib import Path

from tests.drafting.drafts import drafted
from tests.drafting.logs import ROWS, nested


def test_a_broken_line_is_kept_aside(tmp_path: Path) -> None:
    nested(tmp_path / "log")
    with (tmp_path / "log" / "events.jsonl").open("a") as file:
        file.write('{"event_time": "2026-02-0\n[1, 2]\n')
    made = drafted(tmp_path / "log", tmp_path / "draft")
    (shown,) = made.imported(tmp_path / "state").tables
    assert (shown.kept, shown.quarantined) == (ROWS, 2) and shown.reasons == {"no JSON object": 2}
