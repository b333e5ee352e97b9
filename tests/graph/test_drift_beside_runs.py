"""The drift report while another process makes a slice again."""

import shutil
from pathlib import Path

from pipeline.drift.profile import profile_of, profiles
from pipeline.drift.report import drift_rows
from tests.conftest import Ran
from tests.tiny import tiny_workspace


def test_a_slice_of_which_only_the_impressions_are_made_again_is_passed_over(ran: Ran, tmp_path: Path) -> None:
    """As on a live stream, where another process is at it."""
    shutil.copytree(ran.work.state.folder, tmp_path / "tiny")
    work = tiny_workspace(tmp_path)
    slices = work.table("logged_inputs").stored(work.project.stream)
    before, impressions = profiles(work, slices), work.table("impressions")
    last = slices[-1]
    frame = impressions.read([last])
    impressions.write(last, frame.head(7))
    now = profiles(work, slices)
    assert now.keys() == before.keys() - {last.index} and drift_rows(work).height
    assert profile_of(work, last, [])["rows"].sum() > 0  # nor does one that came between fail
    impressions.write(last, frame)
    assert profiles(work, slices)[last.index].equals(before[last.index])
