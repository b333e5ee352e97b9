"""Who gets the canary: as many users as are declared, always the same ones, others for another student."""

import subprocess
import sys

import pytest

from exfm.state import ROOT
from serving.arms import is_canary


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.9])
@pytest.mark.parametrize("text", [False, True])
def test_the_share_of_users_is_the_declared_one(share: float, text: bool) -> None:
    users = [f"user {n}" if text else n for n in range(12_000)]
    got = sum(is_canary("feed_click", user, "", share) for user in users) / len(users)
    assert abs(got - share) <= 5 * (share * (1 - share) / len(users)) ** 0.5
    assert (got > 0) == (share > 0)


def test_the_same_users_in_every_process_and_at_a_larger_share() -> None:
    chosen = [user for user in range(300) if is_canary("s", user, "any", 0.3)]
    code = "from serving.arms import is_canary; print([u for u in range(300) if is_canary('s', u, 'other', 0.3)])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(chosen)
    assert {*chosen} < {user for user in range(300) if is_canary("s", user, "", 0.6)}
    assert chosen != [user for user in range(300) if is_canary("another", user, "", 0.3)]
    assert is_canary("s", -(2**63), "", 1.0) and is_canary("s", 2**63 - 1, "", 1.0)


def test_requests_without_a_user_are_shared_out_too() -> None:
    got = [is_canary("s", None, f"{n:032x}", 0.25) for n in range(20_000)]
    assert abs(sum(got) / len(got) - 0.25) < 0.02
