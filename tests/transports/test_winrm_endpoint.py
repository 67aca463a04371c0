"""The endpoint itself: its answers have the form the specifications give, so tests against it mean something.

It is asked by hand-written envelopes, not by the client it is to test.
"""

from __future__ import annotations

import re
import time
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.lab import winrm_soap as soap

RULES: dict[str, Any] = yaml.safe_load(
    (Path(__file__).parents[1] / "transcripts/winrm/answers.yaml").read_text(encoding="utf-8")
)
NAMES = {"s": soap.S, "a": soap.A, "w": soap.W, "p": soap.P, "rsp": soap.R, "x": soap.X, "f": soap.F}
USER = "LAB\\somebody"


class Client:
    """Envelopes by hand."""

    def __init__(self, service: soap.Service) -> None:
        self.service = service
        self.shell = ""
        self.resource = soap.CMD
        self.user = USER
        self.asked = ""

    def ask(
        self, action: str, body: str = "", *, seconds: float = 5, size: int = 153_600
    ) -> tuple[int, ET.Element]:
        uri = next((uri for uri, name in soap.ACTIONS.items() if name == action), action)
        self.asked = f"uuid:{uuid.uuid4()}"
        selector = f'<w:SelectorSet><w:Selector Name="ShellId">{self.shell}</w:Selector></w:SelectorSet>'
        spaces = " ".join(f'xmlns:{prefix}="{space}"' for prefix, space in NAMES.items())
        envelope = (
            f"<s:Envelope {spaces}><s:Header><a:To>http://endpoint/wsman</a:To><a:ReplyTo><a:Address>"
            f"{soap.ANONYMOUS}</a:Address></a:ReplyTo><a:Action>{uri}</a:Action><a:MessageID>{self.asked}"
            f"</a:MessageID><w:MaxEnvelopeSize>{size}</w:MaxEnvelopeSize><w:OperationTimeout>PT{seconds}S"
            f"</w:OperationTimeout><w:ResourceURI>{self.resource}</w:ResourceURI>{selector}</s:Header>"
            f"<s:Body>{body}</s:Body></s:Envelope>"
        )
        _, status, answer = self.service.handle(envelope.encode(), self.user)
        return status, ET.fromstring(answer)  # noqa: S314 - our own endpoint's

    def open(self) -> ET.Element:
        _, answer = self.ask(
            "Create", "<rsp:Shell><rsp:OutputStreams>stdout stderr</rsp:OutputStreams></rsp:Shell>"
        )
        self.shell = answer.findtext(".//rsp:ShellId", "", NAMES)
        return answer

    def start(self, line: str) -> tuple[str, ET.Element]:
        _, answer = self.ask(
            "Command", f"<rsp:CommandLine><rsp:Command>{line}</rsp:Command></rsp:CommandLine>"
        )
        return answer.findtext(".//rsp:CommandId", "", NAMES), answer

    def send(self, command: str, data: str = "", end: str = "true") -> tuple[int, ET.Element]:
        stream = f'<rsp:Stream Name="stdin" CommandId="{command}" End="{end}">{data}</rsp:Stream>'
        return self.ask("Send", f"<rsp:Send>{stream}</rsp:Send>")

    def receive(self, command: str, seconds: float = 5, size: int = 153_600) -> tuple[int, ET.Element]:
        wanted = f'<rsp:DesiredStream CommandId="{command}">stdout stderr</rsp:DesiredStream>'
        return self.ask("Receive", f"<rsp:Receive>{wanted}</rsp:Receive>", seconds=seconds, size=size)

    def signal(self, command: str) -> tuple[int, ET.Element]:
        code = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell/signal/terminate"
        return self.ask(
            "Signal", f'<rsp:Signal CommandId="{command}"><rsp:Code>{code}</rsp:Code></rsp:Signal>'
        )


@pytest.fixture
def client() -> Iterator[Client]:
    service = soap.Service({})
    yield Client(service)
    service.close()


def holds(client: Client, answer: ET.Element, name: str) -> None:
    """The answer has the form that is written down for its action."""
    rule = RULES["answers"][name]
    header, body = answer.find("s:Header", NAMES), answer.find("s:Body", NAMES)
    assert header is not None
    assert body is not None
    for element in RULES["header"]:
        assert header.findtext(element, None, NAMES), element
    assert header.findtext("a:Action", "", NAMES) == rule["action"]
    assert header.findtext("a:RelatesTo", "", NAMES) == client.asked
    for wanted in rule["elements"]:
        found = body.find(wanted["path"], NAMES)
        assert found is not None, wanted["path"]
        if "text" in wanted:
            assert re.fullmatch(wanted["text"], found.text or ""), wanted["path"]
        for attribute, value in wanted.get("attributes", {}).items():
            assert found.get(attribute) == value if value else found.get(attribute), attribute
    if "order" in rule:
        assert [found.tag for found in body] == [qualified(item) for item in rule["order"]]
    if not rule["elements"]:
        assert len(body) == 0


def qualified(name: str) -> str:
    prefix, _, local = name.partition(":")
    return f"{{{NAMES[prefix]}}}{local}"


def test_every_answer_has_its_form(client: Client) -> None:
    holds(client, client.open(), "Create")
    command, answer = client.start("cat")
    holds(client, answer, "Command")
    holds(client, client.send(command, "aGk=")[1], "Send")
    holds(client, client.receive(command)[1], "Receive")
    holds(client, client.signal(command)[1], "Signal")
    holds(client, client.ask("Delete")[1], "Delete")


def test_a_command_that_ended_says_so_once(client: Client) -> None:
    client.open()
    command, _ = client.start("echo out; echo err &gt;&amp;2; exit 3")
    client.send(command)
    ended, state = set(), ""
    while not state.endswith("/Done"):
        _, answer = client.receive(command)
        ended |= {
            item.get("Name") for item in answer.iterfind(".//rsp:Stream", NAMES) if item.get("End") == "true"
        }
        found = answer.find(".//rsp:CommandState", NAMES)
        assert found is not None
        state = found.get("State") or ""
        assert state.startswith("http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/")
        assert (found.findtext("rsp:ExitCode", None, NAMES) is not None) == state.endswith("/Done")
    assert ended == {"stdout", "stderr"}
    assert answer.findtext(".//rsp:ExitCode", "", NAMES) == "3"
    assert client.receive(command)[0] == 500
    assert client.signal(command)[0] == 200, "as Windows answers"


def test_an_answer_keeps_to_the_envelope_size_that_was_asked(client: Client) -> None:
    client.open()
    command, _ = client.start("head -c 300000 /dev/zero")
    time.sleep(0.3)
    for size in (10_000, 153_600):
        _, answer = client.receive(command, size=size)
        assert len(ET.tostring(answer)) <= size


def fault(client: Client, case: str) -> tuple[int, ET.Element]:
    """Provoke a fault."""
    client.open()
    if case == "no such resource":
        client.resource = "http://schemas.microsoft.com/wbem/wsman/1/wmi"
        return client.ask("Create")
    if case == "no such shell":
        client.shell = str(uuid.uuid4())
        return client.ask("Delete")
    command, _ = client.start("cat")
    if case == "somebody else's shell":
        client.user = "LAB\\else"
        return client.receive(command)
    if case == "no such command":
        return client.receive(str(uuid.uuid4()))
    if case == "input after the end":
        client.send(command)
        return client.send(command, "aGk=")
    return client.receive(command, seconds=0.2)


@pytest.mark.parametrize(
    ("case", "rule"), RULES["faults"]["cases"].items(), ids=list(RULES["faults"]["cases"])
)
def test_every_fault_has_its_form_and_code(client: Client, case: str, rule: dict[str, Any]) -> None:
    status, answer = fault(client, case)
    assert status == RULES["faults"]["status"]
    assert answer.findtext("s:Header/a:Action", "", NAMES) == RULES["faults"]["action"]
    assert answer.findtext("s:Header/a:RelatesTo", "", NAMES) == client.asked
    body = answer.find("s:Body/s:Fault", NAMES)
    assert body is not None
    assert [child.tag.rpartition("}")[2] for child in body] == ["Code", "Reason", "Detail"]
    assert body.findtext("s:Code/s:Value", "", NAMES) == rule["value"]
    assert body.findtext("s:Code/s:Subcode/s:Value", "", NAMES) == rule["subcode"]
    assert body.findtext("s:Reason/s:Text", "", NAMES)
    details = body.find("s:Detail/f:WSManFault", NAMES)
    assert details is not None
    assert details.get("Code") == str(rule["number"])
    detail = (body.findtext("s:Detail/w:FaultDetail", "", NAMES)).rpartition("/")[2]
    assert detail == rule.get("detail", "")
