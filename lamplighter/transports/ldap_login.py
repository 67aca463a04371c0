"""Logins over a connection: the service account's own, and the one that proves a new password."""

from __future__ import annotations

import time
from typing import Any

from ldap3.operation.bind import bind_operation
from ldap3.protocol.rfc4511 import AuthenticationChoice, SaslCredentials, Simple

from lamplighter.errors import AuthFailedError, MalformedError, SessionLostError
from lamplighter.model.logins import BindRefusal, Login, PolicyError
from lamplighter.secrets import Secret
from lamplighter.transports import ldap_ber as ber
from lamplighter.transports import ldap_kerberos
from lamplighter.transports.ldap_errors import SASL_IN_PROGRESS, SUCCESS, refused_bind
from lamplighter.transports.ldap_settings import KerberosBind, LdapServer, LdapSettings
from lamplighter.transports.ldap_wire import Control, Wire, open_wire

POLICY_REQUEST: Control = (ber.PASSWORD_POLICY, False, None)
"""Asks a server with a password policy to say what it objects to; others ignore it."""

_VERSION = 3


def try_login(server: LdapServer, settings: LdapSettings, name: str, password: str) -> Login:
    """Log in once as somebody, asking for the password policy's control, and leave.

    Args:
        server: the one to ask; no other.
        settings: of the directory.
        name: a DN.
        password: in the clear, over an encrypted and proven connection.

    Raises:
        UnreachableError, SessionLostError: no answer; nothing is known.
    """
    deadline = time.monotonic() + settings.connect_timeout
    wire = open_wire(server, settings, deadline)
    try:
        result = wire.result("bindRequest", _request(name, password), deadline, (POLICY_REQUEST,))
        if result.code != SUCCESS:
            error = refused_bind(result, name, (password,))
            if not isinstance(error, AuthFailedError):
                raise error
            return Login(BindRefusal(str(error.data["refusal"])), error.message)
        state = ber.read_policy(result.controls.get(ber.PASSWORD_POLICY))
    except MalformedError as error:
        raise SessionLostError(f"the directory's answer cannot be read: {error.message}") from None
    finally:
        wire.hang_up()
    if state is not None and state.error is PolicyError.MUST_CHANGE:
        return Login(BindRefusal.MUST_CHANGE, str(state.error))
    return Login(None, "it was let in without being asked to change it")


def _request(user: str, password: str) -> Any:
    request = bind_operation(_VERSION, "ANONYMOUS")
    request["name"] = user
    request["authentication"] = AuthenticationChoice().setComponentByName("simple", Simple(password.encode()))
    return request


def simple(wire: Wire, user: str, password: Secret, deadline: float) -> None:
    """Simple bind (RFC 4513 5.1.3). An empty password would be an anonymous login that looks like success."""
    value = password.reveal()
    if not value or not user:
        raise AuthFailedError("a login needs a name and a password", changed="No login was tried")
    _bind(wire, _request(user, value), user, deadline, (value,))


def sasl(wire: Wire, bind: KerberosBind, deadline: float) -> ldap_kerberos.Exchange:
    """What carries the tokens of a login by Kerberos (RFC 4752) to the server and back."""

    def exchange(token: bytes) -> bytes:
        offer = SaslCredentials()
        offer["mechanism"] = "GSSAPI"
        offer["credentials"] = token
        request = bind_operation(_VERSION, "ANONYMOUS")
        request["authentication"] = AuthenticationChoice().setComponentByName("sasl", offer)
        return _bind(wire, request, bind.identity, deadline)

    return exchange


def _bind(wire: Wire, request: Any, identity: str, deadline: float, hidden: tuple[str, ...] = ()) -> bytes:
    """Send one bind and give the server's SASL credentials."""
    result = wire.result("bindRequest", request, deadline, (POLICY_REQUEST,))
    if result.code in {SUCCESS, SASL_IN_PROGRESS}:
        return result.sasl
    raise refused_bind(result, identity, hidden)
