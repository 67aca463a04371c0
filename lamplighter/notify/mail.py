"""One mail to one mailbox, over SMTP (RFC 5321), by the server of an apprise URL (`mailto`, `mailtos`).

apprise only reads the URL: it takes a text with addresses apart at commas, blanks and apostrophes, so it must
not send, or a mail for `fiona.d'souza@b.example` reaches `souza@b.example`. The recipient is the one that was
meant, in the envelope and in the header, and no copies are sent.
"""

from __future__ import annotations

import contextlib
import smtplib
import socket
import ssl
from collections.abc import Iterator
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import localtime, make_msgid
from urllib.parse import unquote, urlsplit

from apprise.plugins.email.base import NotifyEmail
from apprise.plugins.email.common import SecureMailMode

from lamplighter.errors import MalformedError
from lamplighter.model.address import on_the_wire, read_address
from lamplighter.model.notice import Answer, Result

FINAL = 500
"""RFC 5321 4.2.1: 4yz may pass, 5yz is final."""


def recipient_of(url: str, service: NotifyEmail, given: str) -> str:
    """The one mailbox a message goes to.

    Args:
        url: of the service, which may name recipients of its own.
        service: what apprise read in the URL.
        given: the address beside the URL; empty when the URL says it.

    Raises:
        MalformedError: it is not exactly one; the message names no address.
    """
    named = list(_named(url))
    if service.cc or service.bcc:
        raise MalformedError("the mail server's URL sends copies; take `cc` and `bcc` out of it")
    if given and named:
        raise MalformedError("the mail server's URL names a recipient of its own; take it out of it")
    if len(named) > 1:
        raise MalformedError("the URL names several recipients; give each a channel of its own")
    try:
        return read_address(given or (named[0] if named else _sender(service)))
    except MalformedError:
        raise MalformedError("the recipient is not one mail address") from None


def _named(url: str) -> Iterator[str]:
    """Recipients in a URL: of its path and of every `to`, each as it was meant."""
    parts = urlsplit(url)
    texts = [*parts.path.split("/")]
    for pair in parts.query.split("&"):
        key, _, value = pair.partition("=")
        texts += [value] if unquote(key).lower() == "to" else []
    yield from filter(None, (unquote(text).strip() for text in texts))


def send_mail(
    service: NotifyEmail, to: str, subject: str, text: str, *, connect_seconds: float, seconds: float
) -> Answer:
    """Hand one message to the server. Never raises: whatever went wrong is in the answer, without an address.

    Args:
        service: the server and the login, as apprise read them; checked before to be encrypted.
        to: the one recipient, as `read_address` gives it.
        subject, text: of the message.
        connect_seconds, seconds: until a server that does not answer is given up: at first, and then.
    """
    try:
        message = _message(service, to, subject, text)
        with _connected(service, connect_seconds) as server:
            if server.sock is not None:
                server.sock.settimeout(seconds)
            server.send_message(message, _sender(service), [on_the_wire(to)])
    except (smtplib.SMTPException, OSError, ValueError) as error:
        return _explain(error)
    return Answer(Result.SENT)


def _message(service: NotifyEmail, to: str, subject: str, text: str) -> EmailMessage:
    name, sender = service.from_addr[0], _sender(service)
    local, _, domain = on_the_wire(to).rpartition("@")
    message = EmailMessage(policy=SMTP)
    message["Subject"] = subject
    message["From"] = Address(str(name or ""), addr_spec=sender)
    message["To"] = Address(username=_unquoted(local), domain=domain)
    if service.reply_to:
        message["Reply-To"] = ", ".join(sorted(service.reply_to))
    message["Date"] = localtime()
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834 5: no machine answers it
    for header, value in service.headers.items():
        message[header] = value
    message.set_content(text)
    return message


def _sender(service: NotifyEmail) -> str:
    return str(service.from_addr[1])


def _unquoted(local: str) -> str:
    """The content of a quoted local part; `Address` quotes it again where it must be."""
    if not local.startswith('"'):
        return local
    signs = iter(local[1:-1])
    return "".join(next(signs, "") if sign == "\\" else sign for sign in signs)


@contextlib.contextmanager
def _connected(service: NotifyEmail, seconds: float) -> Iterator[smtplib.SMTP]:
    """A connection, encrypted unless the URL says otherwise, and logged in."""
    context = ssl.create_default_context()
    if not service.verify_certificate:  # on this machine's own loopback alone
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, port = service.smtp_host, int(service.port or 0)
    server: smtplib.SMTP = (
        smtplib.SMTP_SSL(host, port, timeout=seconds, context=context)
        if service.secure_mode == SecureMailMode.SSL else smtplib.SMTP(host, port, timeout=seconds)
    )
    try:
        if service.secure_mode == SecureMailMode.STARTTLS:
            server.starttls(context=context)
        if service.user and service.password:
            server.login(service.user, service.password)
        yield server
        with contextlib.suppress(smtplib.SMTPException, OSError):
            server.quit()
    finally:
        server.close()


def _explain(error: Exception) -> Answer:
    """What an error means. Texts of servers hold addresses, so only codes of them are kept.

    A refused recipient or message is final with 5yz. A refused login, greeting or sender is the site's to
    mend, and is tried again.
    """
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return _refused(next(iter(error.recipients.values()))[0])
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return Answer(Result.LATER, f"the mail server did not take the login ({error.smtp_code})")
    if isinstance(error, smtplib.SMTPSenderRefused):
        return Answer(Result.LATER, f"the mail server did not take the sender ({error.smtp_code})")
    if isinstance(error, smtplib.SMTPDataError):
        return _refused(error.smtp_code)
    if isinstance(error, smtplib.SMTPResponseException):
        return Answer(Result.LATER, f"the mail server asks to try later ({error.smtp_code})")
    if isinstance(error, smtplib.SMTPNotSupportedError):
        return _unable(error)
    causes = (error, error.__context__)  # smtplib makes a time-out, too, a server that hung up
    met = (why for kind, why in _SIGNS if any(isinstance(one, kind) for one in causes))
    return Answer(Result.LATER, next(met, _ELSE))


def _refused(code: int) -> Answer:
    if code >= FINAL:
        return Answer(Result.FAILED, f"the mail server refused it for good ({code})")
    return Answer(Result.LATER, f"the mail server asks to try later ({code})")


def _unable(error: smtplib.SMTPNotSupportedError) -> Answer:
    """What the server's greeting does not offer, by smtplib's own words."""
    if "SMTPUTF8" in str(error):
        why = "the address is international, and the mail server does not offer SMTPUTF8 (RFC 6531)"
        return Answer(Result.FAILED, why)
    what = "encryption" if "STARTTLS" in str(error) else "login that is known here"
    return Answer(Result.LATER, f"the mail server offers no {what}")


_ELSE = "the mail server could not be reached, or did not take it"
_SIGNS: tuple[tuple[type[Exception], str], ...] = (
    (ssl.SSLCertVerificationError, "the server's certificate is not trusted here"),
    (ConnectionRefusedError, "the server is down: connection refused"),
    (TimeoutError, "the server did not answer in time"),
    (socket.gaierror, "the server's name is not known"),
    (smtplib.SMTPServerDisconnected, "the mail server hung up"),
)
