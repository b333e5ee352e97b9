"""A release while another process makes a slice again, of which only a part is there yet."""

import shutil
from pathlib import Path

from pipeline.releases.release import current_release
from pipeline.releases.verdict import GATE
from tests.conftest import Ran
from tests.graph.runs import run, sentences
from tests.tiny import tiny_workspace


def test_a_slice_that_is_half_made_again_fails_no_release(ran: Ran, tmp_path: Path) -> None:
    """``logged_inputs`` has other impressions by now than ``logged_teacher_features``: it is judged when both are."""
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    work = tiny_workspace(tmp_path)
    student = work.project.student("feed_click")
    features, served = work.table("logged_teacher_features"), current_release(work, student)
    for slice_ in features.stored(work.project.stream)[-3:]:
        features.write(slice_, features.read([slice_]).head(7))
    (work.state.release(student.name) / GATE).unlink()  # what was let through is not judged again
    again = run(work, select='key:"student/feed_click/release"')
    assert again.success, sentences(again)
    assert not again.asset_materializations_for_node("release_feed_click")
    assert current_release(work, student) == served
