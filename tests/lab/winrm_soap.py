"""The WS-Management half of the WinRM endpoint: shells and their commands, as SOAP.

Written from [MS-WSMV] and DSP0226, and laid beside messages that were recorded from Windows (those in the
test suites of pywinrm and pypsrp): the same elements, attributes, codes and order. It shares no code with the
product, so that the two cannot agree on a mistake by construction.
"""

from __future__ import annotations

import base64
import re
import threading
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from xml.sax.saxutils import escape

from tests.lab.winrm_commands import Acts, Command, EndedError, start

S = "http://www.w3.org/2003/05/soap-envelope"
A = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
W = "http://schemas.dmtf.org/wbem/wsman/1/wsman.xsd"
P = "http://schemas.microsoft.com/wbem/wsman/1/wsman.xsd"
R = "http://schemas.microsoft.com/wbem/wsman/1/windows/shell"
X = "http://schemas.xmlsoap.org/ws/2004/09/transfer"
F = "http://schemas.microsoft.com/wbem/wsman/1/wsmanfault"
ID = "http://schemas.dmtf.org/wbem/wsman/identity/1/wsmanidentity.xsd"
CMD = f"{R}/cmd"
ANONYMOUS = "http://schemas.xmlsoap.org/ws/2004/08/addressing/role/anonymous"
ACTIONS = {
    f"{X}/Create": "Create",
    f"{X}/Delete": "Delete",
    **{f"{R}/{name}": name for name in ("Command", "Send", "Receive", "Signal")},
}
IDENTITY = (
    f'<s:Envelope xmlns:s="{S}"><s:Header/><s:Body><i:IdentifyResponse xmlns:i="{ID}">'
    f"<i:ProtocolVersion>{W}</i:ProtocolVersion><i:ProductVendor>Microsoft Corporation</i:ProductVendor>"
    "<i:ProductVersion>OS: 10.0.20348 SP: 0.0 Stack: 3.0</i:ProductVersion>"
    "</i:IdentifyResponse></s:Body></s:Envelope>"
).encode()
"""DSP0226 11.1; the product's version as Windows words it."""
_NAMES = {"s": S, "a": A, "w": W, "p": P, "rsp": R, "x": X}
_OVERHEAD = 4096


@dataclass(frozen=True)
class Request:
    """One envelope, taken apart."""

    action: str
    message_id: str
    resource: str
    shell: str
    seconds: float
    size: int
    options: Mapping[str, str]
    body: ET.Element


class FaultError(Exception):
    """A SOAP fault to answer with.

    Args:
        who: `Sender` or `Receiver`.
        subcode: DSP0226's name.
        code: Windows' number.
        text: for people.
        detail: DSP0226's fault detail.
    """

    def __init__(self, who: str, subcode: str, code: int, text: str, detail: str = "") -> None:
        super().__init__(text)
        self.who, self.subcode, self.code, self.text, self.detail = who, subcode, code, text, detail


TIMED_OUT = FaultError(
    "Receiver", "TimedOut", 2150858793,
    "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.",
)  # fmt: skip
NO_SHELL = FaultError(
    "Sender", "InvalidSelectors", 2150858843,
    "The WS-Management service cannot process the request because the request contained invalid selectors.",
    "UnexpectedSelectors",
)  # fmt: skip
BAD_INPUT = FaultError("Sender", "InvalidParameter", 87, "The parameter is incorrect.", "InvalidValue")
DENIED = FaultError("Sender", "AccessDenied", 5, "Access is denied.")
NOT_SUPPORTED = FaultError("Sender", "InvalidResourceURI", 2150858752, "The resource URI is not supported.")


@dataclass
class Shell:
    """A shell and its commands."""

    user: str
    commands: dict[str, Command] = field(default_factory=dict)


class Service:
    """All shells of an endpoint.

    Args:
        acts: what stands in for PowerShell scripts.
    """

    def __init__(self, acts: Acts) -> None:
        self.acts = acts
        self.shells: dict[str, Shell] = {}
        self.actions: list[str] = []
        self._lock = threading.Lock()

    def handle(self, envelope: bytes, user: str) -> tuple[str, int, bytes]:
        """Answer one envelope: the action's short name, the HTTP status, the answer."""
        root = ET.fromstring(envelope)  # noqa: S314 - the tests' own client sent it
        if root.find(f"{{{S}}}Body/{{{ID}}}Identify") is not None:
            return "Identify", 200, IDENTITY
        request = parse(root)
        action = ACTIONS.get(request.action, "")
        self.actions.append(action)
        try:
            if not action or request.resource != CMD:
                raise NOT_SUPPORTED
            body = getattr(self, f"_{action.lower()}")(request, user)
        except FaultError as fault:
            return action, 500, _fault(request, fault)
        return action, 200, _envelope(f"{request.action}Response", request.message_id, body)

    def close(self) -> None:
        """Forget every shell, and kill whatever still runs in it."""
        with self._lock:
            shells, self.shells = self.shells, {}
        for shell in shells.values():
            for command in shell.commands.values():
                command.kill()

    def _create(self, _request: Request, user: str) -> str:
        if user.endswith("outsider"):
            raise DENIED
        number = str(uuid.uuid4()).upper()
        with self._lock:
            self.shells[number] = Shell(user)
        return (
            f"<x:ResourceCreated><a:Address>http://endpoint/wsman</a:Address><a:ReferenceParameters>"
            f"<w:ResourceURI>{CMD}</w:ResourceURI><w:SelectorSet>"
            f'<w:Selector Name="ShellId">{number}</w:Selector>'
            f"</w:SelectorSet></a:ReferenceParameters></x:ResourceCreated><rsp:Shell><rsp:ShellId>{number}"
            f"</rsp:ShellId><rsp:ResourceUri>{CMD}</rsp:ResourceUri><rsp:Owner>{escape(user)}</rsp:Owner>"
            f"<rsp:ClientIP>127.0.0.1</rsp:ClientIP><rsp:IdleTimeOut>PT7200.000S</rsp:IdleTimeOut>"
            f"<rsp:InputStreams>stdin</rsp:InputStreams><rsp:OutputStreams>stdout stderr</rsp:OutputStreams>"
            f"<rsp:ShellRunTime>P0DT0H0M0S</rsp:ShellRunTime><rsp:ShellInactivity>P0DT0H0M0S</rsp:ShellInactivity>"
            f"</rsp:Shell>"
        )

    def _delete(self, request: Request, user: str) -> str:
        self._shell(request, user)
        with self._lock:
            shell = self.shells.pop(request.shell)
        for command in shell.commands.values():
            command.kill()
        return ""

    def _command(self, request: Request, user: str) -> str:
        shell = self._shell(request, user)
        line = _need(request.body.find(f"{{{R}}}CommandLine"))
        words = [_need(line.find(f"{{{R}}}Command")).text or ""]
        words += [argument.text or "" for argument in line.findall(f"{{{R}}}Arguments")]
        number = str(uuid.uuid4()).upper()
        shell.commands[number] = start(" ".join(words), self.acts)
        return f"<rsp:CommandResponse><rsp:CommandId>{number}</rsp:CommandId></rsp:CommandResponse>"

    def _send(self, request: Request, user: str) -> str:
        stream = _need(request.body.find(f"{{{R}}}Send/{{{R}}}Stream"))
        if stream.get("Name") != "stdin":
            raise BAD_INPUT
        end = (stream.get("End") or "").lower() == "true"
        try:
            self._running(request, user, stream).write(base64.b64decode(stream.text or ""), end=end)
        except EndedError:
            raise BAD_INPUT from None
        return "<rsp:SendResponse/>"

    def _receive(self, request: Request, user: str) -> str:
        wanted = _need(request.body.find(f"{{{R}}}Receive/{{{R}}}DesiredStream"))
        number = wanted.get("CommandId") or ""
        read = self._running(request, user, wanted).read(request.seconds, (request.size - _OVERHEAD) * 3 // 4)
        if read is None:
            raise TIMED_OUT
        out, code = read
        parts = [_stream(name, number, data) for name, data in out.items() if data]
        state, ended = "Running", ""
        if code is not None:
            self._shell(request, user).commands.pop(number, None)
            parts += [_stream(name, number, b"", ' End="true"') for name in out]
            state, ended = "Done", f"<rsp:ExitCode>{code}</rsp:ExitCode>"
        return (
            f'<rsp:ReceiveResponse>{"".join(parts)}<rsp:CommandState CommandId="{number}" '
            f'State="{R}/CommandState/{state}">{ended}</rsp:CommandState></rsp:ReceiveResponse>'
        )

    def _signal(self, request: Request, user: str) -> str:
        command = _need(request.body.find(f"{{{R}}}Signal")).get("CommandId") or ""
        running = self._shell(request, user).commands.pop(command, None)
        if running is not None:  # Windows answers alike when the command has ended
            running.kill()
        return "<rsp:SignalResponse/>"

    def _shell(self, request: Request, user: str) -> Shell:
        shell = self.shells.get(request.shell)
        if shell is None or shell.user != user:
            raise NO_SHELL
        return shell

    def _running(self, request: Request, user: str, element: ET.Element) -> Command:
        command = self._shell(request, user).commands.get(element.get("CommandId") or "")
        if command is None:
            raise NO_SHELL
        return command


def parse(root: ET.Element) -> Request:
    """Take a request apart; one without the headers every WS-Management request has is not answered."""
    header, body = _need(root.find(f"{{{S}}}Header")), _need(root.find(f"{{{S}}}Body"))
    text = {f"{space}:{name}": _need(header.find(f"{{{_NAMES[space]}}}{name}")).text or ""
            for space, name in (("a", "To"), ("a", "Action"), ("a", "MessageID"), ("w", "ResourceURI"),
                                ("w", "MaxEnvelopeSize"), ("w", "OperationTimeout"))}
    _need(header.find(f"{{{A}}}ReplyTo/{{{A}}}Address"))
    selectors = {item.get("Name"): item.text or "" for item in header.iter(f"{{{W}}}Selector")}
    seconds = re.fullmatch(r"PT(\d+(?:\.\d+)?)S", text["w:OperationTimeout"])
    return Request(
        action=text["a:Action"],
        message_id=text["a:MessageID"],
        resource=text["w:ResourceURI"],
        shell=selectors.get("ShellId", ""),
        seconds=float(seconds[1]) if seconds else 60.0,
        size=int(text["w:MaxEnvelopeSize"]),
        options={item.get("Name") or "": item.text or "" for item in header.iter(f"{{{W}}}Option")},
        body=body,
    )


def _need(element: ET.Element | None) -> ET.Element:
    if element is None:
        raise ValueError("an element every request has is missing")
    return element


def _stream(name: str, command: str, data: bytes, end: str = "") -> str:
    text = base64.b64encode(data).decode()
    return f'<rsp:Stream Name="{name}" CommandId="{command}"{end}>{text}</rsp:Stream>'


def _envelope(action: str, relates_to: str, body: str) -> bytes:
    names = " ".join(f'xmlns:{prefix}="{uri}"' for prefix, uri in _NAMES.items())
    return (
        f'<s:Envelope xml:lang="en-US" {names}><s:Header><a:Action>{action}</a:Action>'
        f"<a:MessageID>uuid:{str(uuid.uuid4()).upper()}</a:MessageID><a:To>{ANONYMOUS}</a:To>"
        f"<a:RelatesTo>{escape(relates_to)}</a:RelatesTo></s:Header><s:Body>{body}</s:Body></s:Envelope>"
    ).encode()


def _fault(request: Request, fault: FaultError) -> bytes:
    detail = f"<w:FaultDetail>http://schemas.dmtf.org/wbem/wsman/1/wsman/faultDetail/{fault.detail}</w:FaultDetail>"
    text = escape(fault.text)
    return _envelope(
        "http://schemas.dmtf.org/wbem/wsman/1/wsman/fault",
        request.message_id,
        f"<s:Fault><s:Code><s:Value>s:{fault.who}</s:Value><s:Subcode><s:Value>w:{fault.subcode}</s:Value>"
        f'</s:Subcode></s:Code><s:Reason><s:Text xml:lang="en-US">{text}</s:Text></s:Reason><s:Detail>'
        f'{detail if fault.detail else ""}<f:WSManFault xmlns:f="{F}" Code="{fault.code}" Machine="endpoint">'
        f"<f:Message>{text}</f:Message></f:WSManFault></s:Detail></s:Fault>",
    )
