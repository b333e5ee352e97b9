"""Each wrong declaration is refused before anything runs, in one sentence that names the field and what to do."""

import pytest

from exfm.alerts import Alerts
from exfm.errors import DeclarationError
from tests.declarations.base import Wrong
from tests.declarations.wrong import WRONG, became

CASES = [
    pytest.param(case, id=f"{kind}-{index}-{case[0]}")
    for kind, cases in WRONG.items()
    for index, case in enumerate(cases)
]
MENDS = ("use ", "write ", "declare ", "rename ", "set ", "add ", "drop ", "list ", "name ")


@pytest.mark.parametrize("case", CASES)
def test_a_wrong_declaration_is_refused_in_one_sentence_that_names_the_field(case: Wrong) -> None:
    field, declare = case
    with pytest.raises(DeclarationError) as refused:
        declare()
    sentence = str(refused.value)
    assert sentence.startswith(f"{field}: ")
    assert "\n" not in sentence and len(sentence) < 800
    assert any(remedy in sentence.rpartition(": ")[2] for remedy in MENDS)


def test_a_url_in_place_of_its_variable_is_not_shown() -> None:
    """Who knows a webhook's URL can post to it, and what a declaration complains of lands in logs."""
    with pytest.raises(DeclarationError) as refused:
        Alerts(webhook_env="https://hooks.slack.com/services/T0PSECRET")
    assert "T0PSECRET" not in str(refused.value)


def test_the_count_tells_a_wrong_field_a_traceback_and_silence_apart() -> None:
    def refuse() -> None:
        raise DeclarationError("A.b: 1 is too small: use 2 or more")

    assert became("A.b", refuse) == "refused"
    assert became("A.c", refuse) == "elsewhere"
    assert became("A.b", lambda: 1 / 0) == "traceback"
    assert became("A.b", lambda: None) == "accepted"
