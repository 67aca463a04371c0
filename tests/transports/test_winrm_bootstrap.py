"""What goes to PowerShell and what comes back, as data; the endpoint's stand-in is not needed for it."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamplighter.errors import RefusedError, RemoteFailedError
from lamplighter.model.canonical import canonical
from lamplighter.model.powershell import PowerShellScript
from lamplighter.transports import winrm_bootstrap as bootstrap
from lamplighter.transports.text import clean

SCRIPT = PowerShellScript("Get-Thing", "'one'")
FRAME = "frame-0123:"


def framed(body: Any) -> bytes:
    return FRAME.encode() + base64.b64encode(json.dumps(body).encode()) + FRAME.encode()


@given(st.dictionaries(st.text("abcXYZ", min_size=1, max_size=8),
                       st.text() | st.integers() | st.booleans() | st.lists(st.text())))  # fmt: skip
@settings(max_examples=100, deadline=None)
def test_a_request_is_plain_base64_of_what_was_asked(parameters: dict[str, Any]) -> None:
    data = bootstrap.request(SCRIPT, parameters, FRAME)
    assert data.isascii()
    assert max(map(len, data.splitlines())) <= 4096
    read = json.loads(base64.b64decode(b"".join(data.split())))
    assert read == {"frame": FRAME, "script": "'one'", "parameters": parameters}


@pytest.mark.parametrize("value", [float("nan"), object(), {1, 2}, b"bytes"])
def test_parameters_that_are_no_json_are_refused(value: object) -> None:
    with pytest.raises(RefusedError, match="no JSON"):
        bootstrap.request(SCRIPT, {"a": value}, FRAME)


def test_nothing_of_the_request_is_on_the_command_line() -> None:
    text = base64.b64decode(bootstrap.ARGUMENTS[-1]).decode("utf-16-le")
    assert "@($input)" in text
    assert "#" not in text


@given(st.binary(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_output_gives_an_answer_or_a_plain_error(noise: bytes) -> None:
    for out in (noise, framed({"ok": True, "output": "{}"}) + noise, FRAME.encode() + noise + FRAME.encode()):
        said = ""
        try:
            assert bootstrap.answer(SCRIPT, FRAME, 0, out, noise).output == {}
        except RemoteFailedError as error:
            said = str(error)
        assert clean(said) == said


@pytest.mark.parametrize(
    "out",
    [
        framed({"ok": True, "output": "{}"}) * 2,
        framed([1]),
        framed({"ok": "yes", "output": "{}"}),
        framed({"ok": True}),
        framed({"ok": True, "output": {"a": 1}}),
        framed({"ok": True, "output": '{"a": 1e999}'}),
        framed({"ok": True, "output": "1" * 5000}),
        framed({"ok": False, "error": "text"}),
        FRAME.encode(),
    ],
)
def test_answers_out_of_form_are_refused(out: bytes) -> None:
    with pytest.raises(RemoteFailedError):
        bootstrap.answer(SCRIPT, FRAME, 0, out, b"")


def test_a_failure_keeps_what_helps_and_nothing_hostile() -> None:
    error = {"message": "\x1b[2Jno \u202eaccess\r\nhere", "type": "System.X", "id": "E", "hresult": -9,
             "line": 7, "extra": "x" * 9999}  # fmt: skip
    with pytest.raises(RemoteFailedError, match="Get-Thing failed: no access here") as caught:
        bootstrap.answer(SCRIPT, FRAME, 1, framed({"ok": False, "error": error}), b"")
    data = {
        "script": "Get-Thing",
        "digest": SCRIPT.digest,
        "hresult": -9,
        "line": 7,
        "type": "System.X",
        "id": "E",
    }
    assert caught.value.data == data


def test_a_letter_and_its_accent_apart_are_one_letter() -> None:
    out = framed({"ok": True, "output": '{"e\u0301": ["e\u0301"]}'})
    assert bootstrap.answer(SCRIPT, FRAME, 0, out, b"").output == {"\u00e9": ["\u00e9"]}


@pytest.mark.parametrize(
    "told", [{"hresult": 2**64, "line": True}, {"type": "e\u0301\ud800", "id": "x" * 999}]
)
def test_what_is_kept_of_a_failure_can_be_recorded(told: dict[str, Any]) -> None:
    with pytest.raises(RemoteFailedError) as caught:
        bootstrap.answer(SCRIPT, FRAME, 1, framed({"ok": False, "error": told}), b"")
    assert canonical(dict(caught.value.data))
