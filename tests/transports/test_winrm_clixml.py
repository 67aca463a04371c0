from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamplighter.transports.winrm_clixml import readable

HEAD = '<Objs Version="1.1.0.1" xmlns="http://schemas.microsoft.com/powershell/2004/04">'


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain words\n", "plain words\n"),
        ("#< CLIXML\n", ""),
        (f'#< CLIXML\n{HEAD}<S S="Error">No_x000D__x000A_at line 3_x000D_</S></Objs>', "No\nat line 3"),
        (f'{HEAD}<S S="Warning">careful</S><S S="verbose">no</S></Objs>', "careful"),
        (f'{HEAD}<Obj S="progress" RefId="0"><MS><S N="A">Preparing modules</S></MS></Obj></Objs>', ""),
        (f'c\n{HEAD}<S S="Error">a</S></Objs>d{HEAD}<S S="Error">b</S></Objs>\ne', "c\nadb\ne"),
        (f'{HEAD}<S S="Error">_xD83D__xDE00_ _x005F_x000A_ &lt;b&gt;</S></Objs>', "\U0001f600 _x000A_ <b>"),
        (f'{HEAD}<S S="Error">_xD83D_ alone</S></Objs>', "\ufffd alone"),
        (f'{HEAD}<S S="Error">unfinished', f'{HEAD}<S S="Error">unfinished'),
        (f'{HEAD}<S S="Error">_x001B_[2J_x202E_evil_x0000_</S></Objs>', "evil"),
        (f"{HEAD}<broken></Objs>", f"{HEAD}<broken></Objs>"),
    ],
)  # fmt: skip
def test_what_a_person_sees(text: str, shown: str) -> None:
    assert readable(text) == shown


def test_entities_and_depth_are_not_followed() -> None:
    bomb = f'<!DOCTYPE x [<!ENTITY a "aaaa">]>{HEAD}<S S="Error">&a;</S></Objs>'
    assert "&a;" in readable(bomb)
    deep = HEAD + "<Obj>" * 50_000 + "</Objs>"
    assert readable(deep) == deep


def test_a_bomb_costs_no_more_than_its_size() -> None:
    many = (HEAD + '<S S="Error">x</S></Objs>') * 10_000
    began = time.monotonic()
    assert readable(many) == "x" * 10_000
    assert readable("<Objs " * 150_000).count("<Objs") == 150_000
    assert readable("_x000A_" * 100_000 + "<Objs") != ""
    assert time.monotonic() - began < 5


PARTS = ["<Objs>", "</Objs>", '<S S="Error">', "</S>", "_x000A_", "_xD83D_", "#< CLIXML\n", "&", "a", "<Obj>"]


@given(st.lists(st.sampled_from(PARTS), max_size=40).map("".join))
@settings(max_examples=300, deadline=None)
def test_any_text_is_read_and_never_grows(text: str) -> None:
    assert len(readable(text)) <= len(text)
