"""Recurrence rules (RFC 5545 section 3.3.10) in words, for the pages people read."""

from __future__ import annotations

import calendar

_DAYS = dict(zip(("MO", "TU", "WE", "TH", "FR", "SA", "SU"), calendar.day_name, strict=True))
_PLACES = {"1": "first", "2": "second", "3": "third", "4": "fourth", "5": "fifth", "-1": "last"}
_UNITS = {"DAILY": "day", "WEEKLY": "week", "MONTHLY": "month", "YEARLY": "year"}


def in_words(rrule: str) -> str:
    """`every Tuesday and Thursday` for `FREQ=WEEKLY;BYDAY=TU,TH`; else the rule itself.

    Args:
        rrule: without `RRULE:` and without a start.
    """
    parts = dict(part.partition("=")[::2] for part in rrule.upper().split(";"))
    unit = _UNITS.get(parts.pop("FREQ", ""))
    days = [_day(one) for one in parts.pop("BYDAY", "").split(",") if one]
    dates = [one for one in parts.pop("BYMONTHDAY", "").split(",") if one]
    months = [_month(one) for one in parts.pop("BYMONTH", "").split(",") if one]
    each = int(parts.pop("INTERVAL", "1"))
    if unit is None or parts or "" in (*days, *months) or not all(one.isdigit() for one in dates):
        return f"`{rrule}`"
    often = f"every {unit}" if each == 1 else f"every {each} {unit}s"
    if not (days or dates or months):
        return often
    if unit == "week" and each == 1 and not (dates or months):
        return f"every {_list(days)}"
    if days and dates:
        return f"`{rrule}`"
    if unit == "year" and months and dates:
        return f"{often} on {_list([f'{date} {month}' for month in months for date in dates])}"
    on = f"on {_list(days) if days else 'day ' + _list(dates)}" if days or dates else ""
    return " ".join(filter(None, (often, on, f"in {_list(months)}" if months else "")))


def _day(code: str) -> str:
    """`SA` is `Saturday`, `2SU` is `the second Sunday`; empty for what is neither."""
    name, place = _DAYS.get(code[-2:], ""), code[:-2]
    if not place:
        return name
    return f"the {_PLACES[place]} {name}" if name and place in _PLACES else ""


def _month(number: str) -> str:
    return dict(enumerate(calendar.month_name)).get(int(number), "") if number.isdigit() else ""


def _list(words: list[str]) -> str:
    """`a, b and c`."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))
