"""Login by Kerberos: SASL GSSAPI (RFC 4752), bound to the TLS channel, without a second layer of encryption.

ldap3 has this too, but compares octets with text and so fails against servers that offer no security layer,
which over TLS is the right offer. The library `gssapi` is an optional extra, as it is built from source.
A Samba server must have `ldap server require strong auth = allow_sasl_over_tls`, for by default it wants
that second layer (smb.conf(5)).
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable
from typing import Any

from lamplighter.errors import AuthFailedError, UnreachableError
from lamplighter.model.logins import BindRefusal
from lamplighter.transports.channel_binding import server_end_point
from lamplighter.transports.ldap_settings import KerberosBind

_NO_LAYER = b"\x01\x00\x00\x00"  # RFC 4752 3.3: no security layer, hence no buffer
_OFFER = 4
_ROUNDS = 10
_REFUSED = {  # minor codes of MIT Kerberos, krb5.h
    -1765328378: BindRefusal.WRONG,  # client not found
    -1765328366: BindRefusal.LOCKED,  # client's credentials revoked: locked or disabled
    -1765328361: BindRefusal.PASSWORD_EXPIRED,
    -1765328360: BindRefusal.WRONG,  # preauthentication failed
    -1765328353: BindRefusal.WRONG,  # decrypt integrity check failed
}

Exchange = Callable[[bytes], bytes]
"""Sends credentials in a bind with mechanism GSSAPI and gives the server's; raises when it refuses."""


def log_in(bind: KerberosBind, host: str, certificate: bytes, exchange: Exchange) -> None:
    """Carry the login out.

    Args:
        bind: who logs in, and where the key or ticket is.
        host: of the server's principal, `ldap/host`.
        certificate: the server's, DER.
        exchange: one round.

    Raises:
        AuthFailedError: Kerberos or the server refused.
        UnreachableError: `gssapi` is not installed, or no KDC answers.
    """
    gssapi = _library()
    try:
        context = gssapi.SecurityContext(
            name=gssapi.Name(f"ldap@{host}", gssapi.NameType.hostbased_service),
            mech=gssapi.MechType.kerberos,
            creds=_credentials(gssapi, bind),
            channel_bindings=gssapi.raw.ChannelBindings(application_data=server_end_point(certificate)),
            usage="initiate",
        )
        answer: bytes | None = None
        for _ in range(_ROUNDS):
            answer = exchange(context.step(answer) or b"")  # nothing left to say is still said (RFC 4752 3.1)
            if context.complete:
                break
        _check(context.unwrap(answer).message)
        exchange(context.wrap(_NO_LAYER, encrypt=False).message)
    except gssapi.exceptions.GSSError as error:
        raise _error(bind, error) from None


def _library() -> Any:
    try:
        return importlib.import_module("gssapi")
    except ImportError:
        raise UnreachableError(
            "Kerberos needs the Python package gssapi, which is not installed",
            changed="Nothing was sent to the directory",
            advice="Install lamplighter[kerberos] (needs libkrb5-dev and gcc), or log in with a password",
        ) from None


def _credentials(gssapi: Any, bind: KerberosBind) -> Any:
    own = hashlib.sha256(f"{bind.principal}\0{bind.keytab}".encode()).hexdigest()  # each key its ticket
    store = {"ccache": bind.ccache or f"MEMORY:lamplighter-{own[:32]}"}
    if bind.keytab is not None:
        store["client_keytab"] = str(bind.keytab)
    name = gssapi.Name(bind.principal, gssapi.NameType.kerberos_principal)
    return gssapi.Credentials(name=name, usage="initiate", store=store)


def _check(offer: bytes) -> None:
    if len(offer) != _OFFER or offer[0] not in {0, *range(1, 8)} or (offer[0] and not offer[0] & 1):
        raise AuthFailedError(
            "the server wants a security layer of Kerberos inside TLS, which is not supported",
            advice="Let the server accept TLS alone",
        )


def _error(bind: KerberosBind, error: Any) -> AuthFailedError | UnreachableError:
    """GSSAPI's status texts are of the local library and name principals, never keys."""
    minor = error.min_code - 2**32 if error.min_code >= 2**31 else error.min_code
    text = " ".join(str(error.gen_message()).split())[:300]
    if minor in _REFUSED:
        refused = AuthFailedError(
            f"Kerberos refused {bind.principal}: {text}",
            changed="It was tried once and is not tried again by this process",
            advice="Check the keytab and the account, then start anew",
        )
        refused.data = {"refusal": str(_REFUSED[minor])}
        return refused
    return UnreachableError(
        f"Kerberos login of {bind.principal} failed: {text}",
        changed="Nothing was sent to the directory but the login",
        advice="Check krb5.conf, the KDC, the clock, and the keytab or ticket",
    )
