"""Who is answered by what: the release that serves, or the canary that a share of users gets first.

Belongs here: the share. Not here: which releases there are (releases.py), judging a canary (pipeline/gate/).
"""

from typing import Any

from models.hashing import stable_hash

SERVED, CANARY = "served", "canary"
_SALT = "canary of "


def is_canary(student: str, user: Any, request_id: str, share: float) -> bool:
    """Does a share of a student's users, to which this one belongs, get the canary?

    The same user always does or does not, in every process, whether the store knows them or not. A request without a
    user's id goes by its own id: there is nobody to be the same for.
    """
    if share <= 0:
        return False
    (word,) = stable_hash([request_id if user is None else user], _SALT + student).view("uint64")
    return int(word) < share * 2.0**64
