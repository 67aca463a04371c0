"""Change an object's access control list in a running domain's database; run by the system's own Python.

Arguments: the smb.conf, then what to do with which object, in threes: `add`, `drop` or `only`, its DN, and
SDDL entries. `drop` takes away every entry that holds the text; `only` puts these in place of all and
inherits none.
"""

import sys

import ldb
from samba.auth import system_session
from samba.dcerpc import security
from samba.ndr import ndr_pack, ndr_unpack
from samba.param import LoadParm
from samba.samdb import SamDB


def changed(text: str, what: str, entries: str) -> str:
    """The list in SDDL, with that change."""
    start = text.index("D:")
    brace = text.index("(", start)
    kept = ["(" + one for one in text[brace:].split("(") if one]
    if what == "only":
        return f"{text[:start]}D:PAI{entries}"
    if what == "drop":
        return text[:brace] + "".join(one for one in kept if entries not in one)
    return text[:brace] + entries + "".join(kept)


def main() -> None:
    """Change them all."""
    conf, *rest = sys.argv[1:]
    params = LoadParm()
    params.load(conf)
    db = SamDB(session_info=system_session(), lp=params)
    own = security.dom_sid(db.get_domain_sid())
    for what, dn, entries in zip(rest[::3], rest[1::3], rest[2::3]):  # noqa: B905 - an older Python's
        found = db.search(dn, scope=ldb.SCOPE_BASE, attrs=["nTSecurityDescriptor"])
        text = ndr_unpack(security.descriptor, found[0]["nTSecurityDescriptor"][0]).as_sddl()
        new = security.descriptor.from_sddl(changed(text, what, entries), own)
        message = ldb.Message(ldb.Dn(db, dn))
        message["sd"] = ldb.MessageElement(ndr_pack(new), ldb.FLAG_MOD_REPLACE, "nTSecurityDescriptor")
        db.modify(message, ["sd_flags:1:4"])


main()
