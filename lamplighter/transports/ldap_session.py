"""A session in a directory: search, read, modify, set a password. See `lamplighter.model.directory`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from ldap3 import DEREF_NEVER
from ldap3.operation.extended import extended_operation
from ldap3.operation.modify import modify_operation
from ldap3.operation.search import search_operation
from ldap3.protocol.rfc2696 import paged_search_control
from ldap3.protocol.rfc3062 import NewPasswd, PasswdModifyRequestValue, UserIdentity
from ldap3.utils.asn1 import encode

from lamplighter.errors import (
    LamplighterError,
    MalformedError,
    NoSuchEntryError,
    OutputTooLargeError,
    RefusedError,
    SecretError,
    SessionLostError,
)
from lamplighter.model.directory import (
    MOST,
    Change,
    Entry,
    Filter,
    Hidden,
    Kind,
    Scope,
    Value,
    octets,
    present,
)
from lamplighter.transports import ldap_ber as ber
from lamplighter.transports.ldap_errors import NO_SUCH_OBJECT, SUCCESS, refused
from lamplighter.transports.ldap_settings import LdapSettings
from lamplighter.transports.ldap_wire import Control, Wire
from lamplighter.transports.text import clean

PAGE = 500
POLICY_REQUEST: Control = (ber.PASSWORD_POLICY, False, None)
"""Asks a server with a password policy to say what it objects to; others ignore it."""

_SET_PASSWORD = "1.3.6.1.4.1.4203.1.11.1"  # noqa: S105 - an OID: RFC 3062 2
_SCOPES = {Scope.BASE: 0, Scope.CHILDREN: 1, Scope.SUBTREE: 2}
_KINDS = {Kind.ADD: 0, Kind.DELETE: 1, Kind.REPLACE: 2}
_NOTHING = "1.1"  # RFC 4511 4.5.1.8: no attributes


class LdapSession:
    """One server, logged in. See `lamplighter.model.directory.Directory`.

    Args:
        wire: the connection, logged in.
        settings: of the directory.
        give_back: takes the connection when the session is closed.
    """

    def __init__(self, wire: Wire, settings: LdapSettings, give_back: Callable[[Wire], None]) -> None:
        self._wire: Wire | None = wire
        self._server = str(wire.server)
        self._settings = settings
        self._give_back = give_back

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LdapSession {self._server} as {self._settings.bind.identity}>"

    @property
    def server(self) -> str:
        """The name of the server this session talks to."""
        return self._server

    @property
    def base(self) -> str:
        """DN that searches start from."""
        return self._settings.base

    def search(
        self, where: Filter, attributes: Sequence[str], *, base: str = "", scope: Scope = Scope.SUBTREE,
        most: int = MOST,
    ) -> tuple[Entry, ...]:
        """Find entries, in pages; see `Directory.search`."""
        deadline = self._deadline()
        found: list[Entry] = []
        cookie = b""
        while True:
            request = search_operation(
                base or self.base, str(where), _SCOPES[scope], DEREF_NEVER, list(attributes) or [_NOTHING],
                0, 0, types_only=False, auto_escape=False, auto_encode=False,
            )
            page = min(PAGE, most + 1 - len(found))
            paged = paged_search_control(criticality=True, size=page, cookie=cookie)
            cookie = self._page(request, () if scope is Scope.BASE else (paged,), deadline, found)
            if len(found) > most:
                raise OutputTooLargeError(
                    f"more than {most} entries match", where=self._server, advice="Search for less"
                )
            if not cookie:
                return tuple(found)

    def get(self, dn: str, attributes: Sequence[str]) -> Entry | None:
        """Read one entry; see `Directory.get`."""
        try:
            found = self.search(present("objectClass"), attributes, base=dn, scope=Scope.BASE, most=1)
        except NoSuchEntryError:
            return None
        return found[0] if found else None

    def modify(self, dn: str, *changes: Change) -> None:
        """Change one entry; see `Directory.modify`."""
        if not changes or len({change.attribute.lower() for change in changes}) != len(changes):
            raise MalformedError("a modification changes nothing, or one attribute twice")
        secrets = tuple(_reveal(v) for change in changes for v in change.values if isinstance(v, Hidden))
        plain = {
            change.attribute: [(_KINDS[change.kind], [_encoded(change.attribute, v) for v in change.values])]
            for change in changes
        }
        request = modify_operation(dn, plain, auto_encode=False)
        self._change("modifyRequest", request, f"{clean(dn)} could not be changed", secrets)

    def set_password(self, dn: str, new: Hidden) -> None:
        """Set a password; see `Directory.set_password`."""
        secret = _reveal(new)
        value = PasswdModifyRequestValue()
        value["userIdentity"] = UserIdentity(dn.encode())
        value["newPasswd"] = NewPasswd(secret.encode())
        request = extended_operation(_SET_PASSWORD, encode(value))
        self._change("extendedReq", request, f"the password of {clean(dn)} could not be set", (secret,))

    def close(self) -> None:
        """Give the connection back; never raises."""
        wire, self._wire = self._wire, None
        if wire is not None:
            self._give_back(wire)

    def _page(
        self, request: Any, controls: Sequence[Control], deadline: float, found: list[Entry]
    ) -> bytes:
        """Ask for a page, add what it holds, and return the cookie of the next."""
        wire = self._open()
        try:
            *answers, last = wire.ask("searchRequest", request, deadline, controls)
            found += (_entry(answer) for answer in answers if answer.kind == ber.SEARCH_ENTRY)
            result = ber.read_result(last)
            if result.code == SUCCESS:
                cookie = result.controls.get(ber.PAGED)
                return ber.read_cookie(cookie) if cookie else b""
            if result.code == NO_SUCH_OBJECT:
                raise NoSuchEntryError("the search found nothing to start from", advice="Check the base DN")
            raise refused("the search was refused", result)
        except MalformedError as error:
            wire.hang_up()
            raise SessionLostError(
                f"the directory's answer cannot be read: {error.message}", where=self._server
            ) from None
        except LamplighterError as error:
            raise error.at(self._server) from None

    def _change(self, kind: str, request: Any, what: str, secrets: Iterable[str]) -> None:
        wire = self._open()
        try:
            result = wire.result(kind, request, self._deadline(), (POLICY_REQUEST,))
            if result.code != SUCCESS:
                raise refused(what, result, secrets)
        except LamplighterError as error:
            raise error.at(self._server) from None

    def _open(self) -> Wire:
        if self._wire is None:
            raise SessionLostError("the session was closed", where=self._server, changed="Nothing was sent")
        return self._wire

    def _deadline(self) -> float:
        return time.monotonic() + self._settings.timeout


def _entry(message: ber.Message) -> Entry:
    """The entry of an answer. A list of values that is only a part of the whole is an error."""
    dn, attributes = ber.read_entry(message)
    whole = {}
    for name, values in attributes.items():
        plain, partial, span = name.partition(";range=")  # MS-ADTS 3.1.1.3.1.3.3
        if partial and not span.endswith("-*"):
            raise OutputTooLargeError(f"{plain} of {clean(dn)} has more values than the server gives at once")
        whole[plain] = values
    return Entry(dn, whole)


def _reveal(value: Hidden) -> str:
    """A hidden value that can be sent. Errors of Python's codecs carry the text, so they are not let out."""
    text = value.reveal()
    try:
        text.encode()
    except UnicodeEncodeError:
        text = ""
    if not text:
        raise SecretError("the new password is empty or no text", advice="Generate another one")
    return text


def _encoded(attribute: str, value: Value | Hidden) -> bytes:
    password = attribute.lower() == "unicodepwd"
    if not isinstance(value, Hidden):
        if password:
            raise RefusedError("a password is written from a secret only", changed="Nothing was sent")
        return octets(value)
    text = _reveal(value)
    return f'"{text}"'.encode("utf-16-le") if password else text.encode()
