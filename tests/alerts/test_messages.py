"""What is news of alerts, the message that is made of it, and the POST, without Dagster."""

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from exfm.alerts import Alerts
from exfm_assets.alerts.alert import Alert, Book, News
from exfm_assets.alerts.failed_checks import Looked, still_failed
from exfm_assets.alerts.webhook import MOST, WebhookError, message, post
from tests.alerts.receiver import Receiver, receiving

NOON = datetime(2026, 1, 9, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
UI = "http://dagster.internal:3000"


def alert(number: int = 0, since: datetime = NOON) -> Alert:
    return Alert("check_failed", f"student/s{number}/checkpoint", since, "loss nan", "look", check="finite", run="abc")


def states(book: Book, at: datetime, again: timedelta | None = DAY) -> list[str]:
    return [one.state for one in book.news(at, again)]


def test_what_lasts_is_said_again_after_so_long_and_never_if_not_asked_for() -> None:
    book = Book({}).looked([alert()], NOON)
    book = book.said(book.news(NOON, DAY), NOON)
    later = book.looked([alert()], NOON + 23 * HOUR)
    assert states(later, NOON + 23 * HOUR) == []
    later = book.looked([alert()], NOON + DAY)
    assert states(later, NOON + DAY, None) == [] and states(later, NOON + DAY) == ["still"]
    later = later.said(later.news(NOON + DAY, DAY), NOON + DAY)
    assert states(later, NOON + DAY + HOUR) == []


def test_what_comes_back_before_its_end_was_taken_is_no_news_and_after_that_is() -> None:
    book = Book({}).looked([alert()], NOON)
    book = book.said(book.news(NOON, DAY), NOON)
    ended = book.looked([], NOON + HOUR)
    assert states(ended, NOON + HOUR) == ["resolved"]
    assert states(ended.looked([alert()], NOON + 2 * HOUR), NOON + 2 * HOUR) == []
    over = ended.said(ended.news(NOON + HOUR, DAY), NOON + HOUR)
    assert over == Book({})
    assert states(over.looked([alert()], NOON + 2 * HOUR), NOON + 2 * HOUR) == ["begins"]


def test_the_end_is_when_it_was_first_seen_to_be_over_however_late_it_is_sent() -> None:
    book = Book({}).looked([alert()], NOON).looked([], NOON + HOUR).looked([], NOON + 3 * HOUR)
    ((one,),) = [book.news(NOON + 3 * HOUR, DAY)]
    assert (one.state, one.alert.since, one.until) == ("resolved", NOON, NOON + HOUR)


def test_a_book_is_read_back_from_the_cursor_as_what_it_was() -> None:
    book = Book({}).looked([alert(0), alert(1)], NOON)
    book = book.said(book.news(NOON, DAY), NOON).looked([alert(1, NOON + HOUR), alert(2)], NOON + HOUR)
    assert Book.read(book.written()) == book
    assert {entry.alert.since for entry in book.entries.values()} == {NOON}  # it goes on, it does not begin again


def looked(passed: bool, *slices: int, hours: int = 0, all_of_it: bool = False) -> Looked:
    return Looked(passed, NOON + hours * HOUR, None if all_of_it else frozenset(slices), "", "run")


@pytest.mark.parametrize(
    ("newest_first", "left"),
    [
        ([], []),
        ([looked(True, 3)], []),
        ([looked(False, 3)], [{3}]),
        ([looked(True, 4), looked(False, 3)], [{3}]),
        ([looked(True, 3), looked(False, 3)], []),
        ([looked(False, 3), looked(True, 3)], [{3}]),
        ([looked(True, 3), looked(True, 5), looked(False, 3, 4, 5)], [{4}]),
        ([looked(True, 4), looked(False, 3), looked(False, 3, 4)], [{3}, {3}]),
        ([looked(True, all_of_it=True), looked(False, 3)], []),
        ([looked(False, all_of_it=True), looked(True, 3)], [None]),
        ([looked(True, 4), looked(False, all_of_it=True)], []),
    ],
)  # fmt: skip
def test_a_failure_stands_until_the_check_passed_on_the_same_slices(
    newest_first: list[Looked], left: list[set[int] | None]
) -> None:
    found = [None if look.slices is None else set(look.slices) for look in still_failed(newest_first)]
    assert found == left


def test_a_large_batch_is_cut_and_says_how_much_more_there_is() -> None:
    many = [News("begins", alert(number)) for number in range(MOST + 7)]
    body = message(Alerts(), "tiny", many)
    assert len(body["alerts"]) == MOST and body["more"] == 7
    lines = message(Alerts(format="slack"), "tiny", many)["text"].splitlines()
    assert len(lines) == MOST + 2 and lines[-1] == "and 7 more: `exfm alerts` lists them"
    assert message(Alerts(), "tiny", many[:MOST])["more"] == 0
    assert "more" not in message(Alerts(format="slack"), "tiny", many[:MOST])["text"]


def test_slack_gets_one_text_with_a_line_an_alert() -> None:
    odd = Alert(
        "run_failed_twice", "labels", NOON, "labels failed in 2 runs: a < b & c", "look at the run",
        slices="2026-01-03", run="0a1b", step="labels",
    )  # fmt: skip
    body = message(Alerts(format="slack", ui=UI), "tiny", [News("begins", odd), News("resolved", alert(), NOON)])
    assert body == {"text": "\n".join([
        "*exfm tiny*",
        ":red_circle: labels failed twice, 2026-01-03, since 2026-01-09 12:00 UTC: labels failed in 2 runs: "
        f"a &lt; b &amp; c. To do: look at the run <{UI}/runs/0a1b|Look>",
        ":white_check_mark: resolved: check finite of student/s0/checkpoint, since 2026-01-09 12:00 UTC",
    ])}  # fmt: skip


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with receiving() as opened:
        yield opened


@pytest.mark.parametrize("status", [200, 201, 204])
def test_any_2xx_is_taken(receiver: Receiver, status: int) -> None:
    receiver.status = status
    assert post(receiver.url, {"a": 1}) == status and receiver.taken == [{"a": 1}]


def test_an_answer_that_comes_a_byte_at_a_time_holds_nobody_up(receiver: Receiver) -> None:
    """A socket's timeout is for each read, and would never end this."""
    receiver.drips, began = 4.0, time.monotonic()
    with pytest.raises(WebhookError, match=r"^127\.0\.0\.1 did not answer within 0\.5 s$"):
        post(receiver.url, {}, seconds=0.5)
    assert time.monotonic() - began < 2
