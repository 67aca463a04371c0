"""A session in a directory: search, read, modify, set a password. See `lamplighter.model.directory`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Self

from ldap3 import DEREF_NEVER
from ldap3.operation.compare import compare_operation
from ldap3.operation.extended import extended_operation
from ldap3.operation.modify import modify_operation
from ldap3.operation.search import compile_filter, parse_filter, search_operation
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
    none_of,
    octets,
    present,
)
from lamplighter.model.logins import Answer, Login, Usability
from lamplighter.transports import ldap_ber as ber
from lamplighter.transports.ldap_errors import (
    COMPARE_FALSE,
    COMPARE_TRUE,
    NO_SUCH_OBJECT,
    REFERRAL,
    SIZE_LIMIT,
    SUCCESS,
    UNAVAILABLE_EXTENSION,
    refused,
)
from lamplighter.transports.ldap_login import POLICY_REQUEST, try_login
from lamplighter.transports.ldap_settings import LdapSettings
from lamplighter.transports.ldap_wire import Control, Wire
from lamplighter.transports.text import clean

PAGE = 500
MOST_VALUES = 200_000
"""Values of one attribute: members of a very large group."""

_ALL_BUT_AUDIT = bytes.fromhex("3003020107")  # SEQUENCE { INTEGER 7 }: owner, group, DACL (MS-ADTS, as above)
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
        connect: opens a session on another server of the directory.
    """

    def __init__(
        self, wire: Wire, settings: LdapSettings, give_back: Callable[[Wire], None],
        connect: Callable[[str], LdapSession],
    ) -> None:
        self._wire: Wire | None = wire
        self._server = wire.server
        self._settings = settings
        self._give_back = give_back
        self._connect = connect

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<LdapSession {self.server} as {self._settings.bind.identity}>"

    @property
    def server(self) -> str:
        """The name of the server this session talks to."""
        return str(self._server)

    @property
    def peers(self) -> tuple[str, ...]:
        """The names of the other servers."""
        return tuple(str(one) for one in self._settings.servers if one != self._server)

    def peer(self, server: str) -> LdapSession:
        """A session with one of them; see `Directory.peer`."""
        return self._connect(server)

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
        few = most < PAGE  # a server may forbid pages, or count them against a limit of its own
        while True:
            request = _search(base or self.base, where, attributes, scope, most + 1 if few else 0)
            page = min(PAGE, most + 1 - len(found))
            paged = paged_search_control(criticality=True, size=page, cookie=cookie)
            cookie = self._page(request, () if few else (paged,), deadline, found)
            if len(found) > most:
                raise OutputTooLargeError(
                    f"more than {most} entries match", where=self.server, advice="Search for less"
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

    def root(self, attributes: Sequence[str]) -> Entry:
        """What the server says of itself; see `Directory.root`."""
        request = _search("", present("objectClass"), attributes, Scope.BASE, 1)
        found: list[Entry] = []
        self._page(request, (), self._deadline(), found)
        return found[0] if found else Entry("")

    def values(self, dn: str, attribute: str) -> tuple[bytes, ...]:
        """All values of an attribute; see `Directory.values` (ranges: MS-ADTS 3.1.1.3.1.3.3)."""
        got: list[bytes] = []
        while True:
            name = f"{attribute};range={len(got)}-*" if got else attribute
            found: list[Entry] = []
            request = _search(dn, present("objectClass"), [name], Scope.BASE, 1)
            self._page(request, (), self._deadline(), found, parts=True)
            pieces = found[0].attributes if found else {}
            more = next((one for one in pieces if ";range=" in one and not one.endswith("-*")), "")
            got += (value for values in pieces.values() for value in values)
            if len(got) > MOST_VALUES:
                raise OutputTooLargeError(
                    f"{attribute} of {clean(dn)} has more than {MOST_VALUES} values", where=self.server
                )
            if not more:
                return tuple(got)

    def access(self, dn: str) -> bytes:
        """An object's security descriptor without its audit list; see `Directory.access`."""
        request = _search(dn, present("objectClass"), ["nTSecurityDescriptor"], Scope.BASE, 1)
        found: list[Entry] = []
        self._page(request, ((ber.DESCRIPTOR, True, _ALL_BUT_AUDIT),), self._deadline(), found)
        return found[0].octets("nTSecurityDescriptor") if found else b""

    def usability(self, dn: str) -> Usability:
        """What the server says of an account's logins; see `Directory.usability`."""
        wire = self._open()
        request = _search(dn, present("objectClass"), (), Scope.BASE, 1)
        try:
            controls = ((ber.USABILITY, True, None),)
            *answers, last = wire.ask("searchRequest", request, self._deadline(), controls)
            result = ber.read_result(last)
            if result.code == UNAVAILABLE_EXTENSION:
                known = set(self.root(("supportedControl",)).texts("supportedControl"))
                older = ber.USABILITY not in known and ber.PASSWORD_POLICY in known
                return Usability(Answer.UNKNOWN if older else Answer.NO_POLICY)
            if result.code != SUCCESS:
                raise refused("whether the account is usable could not be asked", result)
            value = next((one.controls.get(ber.USABILITY) for one in answers), None)
            return ber.read_usability(value) if value else Usability(Answer.SILENT)
        except MalformedError as error:
            wire.hang_up()
            raise SessionLostError(
                f"the directory's answer cannot be read: {error.message}", where=self.server
            ) from None
        except LamplighterError as error:
            raise error.at(self.server) from None

    def compares(self, dn: str, attribute: str, value: Value) -> bool | None:
        """Whether an attribute has a value; see `Directory.compares`."""
        request = compare_operation(dn, attribute, octets(value), auto_encode=False)
        code = self._open().result("compareRequest", request, self._deadline()).code
        return code == COMPARE_TRUE if code in {COMPARE_TRUE, COMPARE_FALSE} else None

    def refers(self, dn: str, attribute: str) -> bool:
        """Whether changes of an entry are referred elsewhere; see `Directory.refers`."""
        request = modify_operation(dn, {attribute: [(_KINDS[Kind.REPLACE], [])]}, auto_encode=False)
        text = str(none_of(present("objectClass")))
        never = encode(compile_filter(parse_filter(text, None, False, False, None, False).elements[0]))
        controls = ((ber.ASSERTION, True, never),)
        return self._open().result("modifyRequest", request, self._deadline(), controls).code == REFERRAL

    def try_login(self, name: str, password: Hidden) -> Login:
        """Log in once as somebody and leave; see `Directory.try_login`."""
        return try_login(self._server, self._settings, name, _reveal(password))

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
        self, request: Any, controls: Sequence[Control], deadline: float, found: list[Entry], *,
        parts: bool = False,
    ) -> bytes:
        """Ask for a page, add what it holds, and return the cookie of the next."""
        wire = self._open()
        try:
            *answers, last = wire.ask("searchRequest", request, deadline, controls)
            got = [one for one in answers if one.kind == ber.SEARCH_ENTRY]
            found += (Entry(*ber.read_entry(one)) if parts else _entry(one) for one in got)
            result = ber.read_result(last)
            if result.code == SIZE_LIMIT and got and len(got) == int(request["sizeLimit"]):
                return b""  # the limit that was asked for here
            if result.code == SUCCESS:
                cookie = result.controls.get(ber.PAGED)
                return ber.read_cookie(cookie) if cookie else b""
            if result.code == NO_SUCH_OBJECT:
                raise NoSuchEntryError("the search found nothing to start from", advice="Check the base DN")
            raise refused("the search was refused", result)
        except MalformedError as error:
            wire.hang_up()
            raise SessionLostError(
                f"the directory's answer cannot be read: {error.message}", where=self.server
            ) from None
        except LamplighterError as error:
            raise error.at(self.server) from None

    def _change(self, kind: str, request: Any, what: str, secrets: Iterable[str]) -> None:
        wire = self._open()
        try:
            result = wire.result(kind, request, self._deadline(), (POLICY_REQUEST,))
            if result.code != SUCCESS:
                raise refused(what, result, secrets)
        except LamplighterError as error:
            raise error.at(self.server) from None

    def _open(self) -> Wire:
        if self._wire is None:
            raise SessionLostError("the session was closed", where=self.server, changed="Nothing was sent")
        return self._wire

    def _deadline(self) -> float:
        return time.monotonic() + self._settings.timeout


def _search(base: str, where: Filter, attributes: Sequence[str], scope: Scope, size: int) -> Any:
    return search_operation(
        base, str(where), _SCOPES[scope], DEREF_NEVER, list(attributes) or [_NOTHING], size, 0,
        types_only=False, auto_escape=False, auto_encode=False,
    )


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
