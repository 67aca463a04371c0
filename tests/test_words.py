"""Recurrence rules in words: right, or the rule itself."""

import pytest

from lamplighter.derive.words import in_words

WORDS = {
    "FREQ=WEEKLY;BYDAY=SA": "every Saturday",
    "FREQ=WEEKLY;BYDAY=TU,TH": "every Tuesday and Thursday",
    "freq=weekly;byday=MO,WE,FR": "every Monday, Wednesday and Friday",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=SU": "every 2 weeks on Sunday",
    "FREQ=MONTHLY;BYDAY=2SU": "every month on the second Sunday",
    "FREQ=MONTHLY;BYDAY=-1FR;BYMONTH=3,6": "every month on the last Friday in March and June",
    "FREQ=MONTHLY;BYMONTHDAY=1,15": "every month on day 1 and 15",
    "FREQ=YEARLY;BYMONTH=1;BYMONTHDAY=14": "every year on 14 January",
    "FREQ=YEARLY;BYMONTH=1,4": "every year in January and April",
    "FREQ=DAILY": "every day",
    "FREQ=DAILY;INTERVAL=3": "every 3 days",
}
ITSELF = (
    "FREQ=WEEKLY;BYDAY=SA;COUNT=3", "FREQ=WEEKLY;BYDAY=XX", "FREQ=MONTHLY;BYDAY=7SU",
    "FREQ=YEARLY;BYMONTH=13", "FREQ=MONTHLY;BYMONTHDAY=-1", "FREQ=MONTHLY;BYMONTHDAY=13;BYDAY=FR",
    "FREQ=HOURLY", "", "BYDAY=SA", "FREQ=MONTHLY;BYDAY=SU;BYSETPOS=-1",
)


@pytest.mark.parametrize(("rule", "words"), WORDS.items())
def test_in_words(rule: str, words: str) -> None:
    assert in_words(rule) == words


@pytest.mark.parametrize("rule", ITSELF)
def test_what_would_need_more_words_is_shown_as_it_is(rule: str) -> None:
    assert in_words(rule) == f"`{rule}`"
