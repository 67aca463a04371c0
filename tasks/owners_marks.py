"""Marks by which a directory's owner says that an account is not to be used any more. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from lamplighter.model.directory import Entry
from lamplighter.site.directory import DisabledEntry

_KNOWN: Mapping[str, frozenset[str]] = {  # of usual schemas: Netscape, Novell, qmail-ldap, Courier, Samba 3
    "nsAccountLock": frozenset({"true"}), "inetUserStatus": frozenset({"inactive", "deleted"}),
    "mailUserStatus": frozenset({"inactive", "deleted", "removed"}), "loginDisabled": frozenset({"true"}),
    "accountStatus": frozenset({"disabled", "deleted", "nopop"}),
    "ds-pwp-account-disabled": frozenset({"true"}), "pwdAccountDisabled": frozenset({"true"}),
    "orclIsEnabled": frozenset({"disabled", "inactive"}),
}
_FLAGS = "sambaAcctFlags"  # in brackets, D for disabled: Samba 3's schema


@dataclass(frozen=True, slots=True)
class Marks:
    """What marks such an account.

    Attributes:
        site: the site's own, by attribute, values folded; the usual schemas' are known.
    """

    site: Mapping[str, frozenset[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, entries: Iterable[DisabledEntry]) -> Marks:
        """Those of a `directory.yaml`."""
        return cls({one.attribute: frozenset(map(str.lower, one.values)) for one in entries})

    @property
    def own(self) -> Sequence[str]:
        """The site's attributes, which must be readable."""
        return tuple(self.site)

    @property
    def attributes(self) -> tuple[str, ...]:
        """What to read."""
        return (*_KNOWN, _FLAGS, *self.site)

    def found(self, entry: Entry) -> str:
        """The mark on an account, in words; empty for none."""
        for known in (self.site, _KNOWN):
            for name, values in known.items():
                hit = next((text for text in entry.texts(name) if text.lower() in values), "")
                if hit:
                    return f"{name} is {hit}"
        return f"{_FLAGS} has D" if "D" in "".join(entry.texts(_FLAGS)) else ""
