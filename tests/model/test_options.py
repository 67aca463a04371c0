"""What may be chosen when a runbook is started, from its one declaration."""

from __future__ import annotations

import pytest

from flows.patch_linux import RUNBOOK as PATCH
from flows.reset_password import RUNBOOK as RESET
from flows.unlock_account import RUNBOOK as UNLOCK
from lamplighter.derive.catalogue import discover
from lamplighter.errors import SelectionError
from lamplighter.model.options import operation_with, options_of, parameters_of
from lamplighter.model.runbook import Runbook

TYPED = [
    (PATCH, ["packages=all", "repair=true"], {"packages": "all", "repair": True}),
    (PATCH, [], {}),
    (RESET, ["unlock=false", "style=characters"], {"unlock": False, "style": "characters"}),
    (UNLOCK, [], {}),
]
REFUSED = [
    (PATCH, "packages=everything", "`packages` cannot be `everything` (write one of: security, all)"),
    (PATCH, "packages=securty", "`packages` cannot be `securty` (did you mean `security`?)"),
    (PATCH, "packages=ALL", "`packages` cannot be `ALL` (did you mean `all`?)"),
    (PATCH, "packages=", "`packages` cannot be `` (write one of: security, all)"),
    (PATCH, "packages=true", "`packages` cannot be `true` (write one of: security, all)"),
    (PATCH, "package=all", "there is no option `package` (did you mean `packages`?)"),
    (PATCH, "repair=yes", "`repair` cannot be `yes` (write true or false)"),
    (PATCH, "repair=True", "`repair` cannot be `True` (write true or false)"),
    (PATCH, "repair=1", "`repair` cannot be `1` (write true or false)"),
    (PATCH, "repair=null", "`repair` cannot be `null` (write true or false)"),
    (PATCH, "repair", "'repair' is not NAME=VALUE"),
    (PATCH, "clock=nonsense", "there is no option `clock` (there are: packages, reboot, repair)"),
    (RESET, "style=nonsense", "`style` cannot be `nonsense` (write one of: words, characters)"),
    (RESET, "clock=nonsense", "there is no option `clock` (did you mean `unlock`?)"),
    (RESET, "guard=none", "there is no option `guard` (there are: style, unlock)"),
    (RESET, "keep=x", "there is no option `keep` (there are: style, unlock)"),
    (RESET, "unlock=maybe", "`unlock` cannot be `maybe` (write true or false)"),
    (UNLOCK, "clock=nonsense", "there is no option `clock` (there are: none)"),
    (UNLOCK, "system=x", "there is no option `system` (there are: none)"),
]


@pytest.mark.parametrize(("runbook", "pairs", "meant"), TYPED)
def test_options_as_typed_are_taken_in_their_types(
    runbook: Runbook, pairs: list[str], meant: dict[str, object]
) -> None:
    found = options_of(runbook).read(pairs)
    assert found == meant
    made = operation_with(runbook, found).options()
    assert {name: made[name] for name in meant} == meant


@pytest.mark.parametrize(("runbook", "pair", "why"), REFUSED)
def test_what_is_no_option_is_refused(runbook: Runbook, pair: str, why: str) -> None:
    with pytest.raises(SelectionError) as caught:
        options_of(runbook).read([pair])
    assert caught.value.message == why


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(SelectionError) as caught:
        options_of(PATCH).read(["packages=x", "repair=y", "reboot=never", "reboot=never", "z"])
    for part in ("`packages` cannot be", "`repair` cannot be", "`reboot` is given twice", "'z' is not"):
        assert part in caught.value.message


@pytest.mark.parametrize("given", [{"packages": "everything"}, {"repair": "true"}, {"clock": 1}])
def test_an_operation_is_not_built_of_what_is_no_option(given: dict[str, object]) -> None:
    with pytest.raises(SelectionError):
        operation_with(PATCH, given)


def test_every_option_is_a_parameter_of_its_flow_of_the_same_type_unless_the_site_decides_it() -> None:
    """The form asks for what the operation takes. Only `style` is the site's, in directory.yaml."""
    for entry in discover().values():
        if entry.runbook.operation is None:
            continue
        options, parameters = options_of(entry.runbook).types, parameters_of(entry.flow.fn).types
        shared = options.keys() & parameters.keys()
        assert options.keys() - shared <= {"style"}
        assert {name: options[name] for name in shared} == {name: parameters[name] for name in shared}
