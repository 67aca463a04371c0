"""`make demo`: a gated patch run on real hosts, from nothing to a verified ledger."""

import argparse
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.lab import demo_directory, demo_hosts
from tests.lab.demo_sandbox import Sandbox
from tests.lab.demo_site import APPROVERS, HOSTS, REQUESTER
from tests.lab.errors import LabError
from tests.lab.estate import Estate
from tests.lab.prefect_api import PrefectApi
from tests.lab.prefect_stack import BIN, ROOT, PrefectStack

SITE = "demo"
APPROVER = "asha.patel@internal.example"
PORT = 4200
WAITS = "waiting for approval"
DONE = {"Completed", "Halted", "Rejected", "Expired", "Failed", "Crashed", "Cancelled"}


def folder() -> Path:
    """Where everything of the demo lives."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(state) / "lamplighter-demo"


def main(argv: Sequence[str] | None = None) -> int:
    """Run `up` or `down`. Returns: the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.lab.demo", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    up_parser = commands.add_parser("up", help="start what is not running, then patch")
    up_parser.add_argument("--by-hand", action="store_true", help="wait for you to approve")
    commands.add_parser("down", help="stop everything and remove every trace")
    arguments = parser.parse_args(argv)
    try:
        return down() if arguments.command == "down" else up(by_hand=arguments.by_hand)
    except LabError as error:
        print(f"\nThe demo stopped: {error}", file=sys.stderr)
        after = "Nothing outside the sandbox was changed. `make demo-down` removes what was started."
        print(after, file=sys.stderr)
        return 1


def up(*, by_hand: bool) -> int:
    """Bring the sandbox up and take one patch run through it."""
    begun = time.monotonic()
    site, stack = _bring_up()
    _say(f"ready to patch after {time.monotonic() - begun:.0f} s. The Prefect UI: {stack.url}")
    run = _start(stack, "all-weekly")
    _say(f"run {run}: it surveys the hosts and plans, then waits at its gate")
    _follow(stack, run, {WAITS, *DONE})
    if by_hand:
        _by_hand(stack, site, run)
    else:
        _say(f"{APPROVER} reads the plan and signs exactly that:")
        _show(stack, "approve", run, "--key", str(site.key(APPROVER)), "--yes", "--reason", "demo")
    state = _follow(stack, run, DONE)
    _say("the report:")
    _show(stack, "show", run)
    _say("the ledger, checked offline:")
    _show(stack, "verify", "--site", SITE)
    _say("a second run, of all updates and only of the web servers; this one is yours to approve")
    yours = _start(stack, "web-prod-monthly")
    _follow(stack, yours, {WAITS, *DONE})
    _say(_explore(stack, site, run, yours))
    return 0 if state == "Completed" else 1


def _bring_up() -> tuple[Sandbox, PrefectStack]:
    """Start what is not running: the directory and the mail beside the hosts, which take longest."""
    estate = _running_estate()
    if estate is None:
        _say("starting six Debian hosts (the first time, their base system is built: about a minute)")
        home = folder()
        PrefectStack(home / "prefect").stop()
        shutil.rmtree(home, ignore_errors=True)
        specs = [demo_hosts.spec(host) for host in HOSTS]
        estate = Estate(_estate_name(), specs, home / "estate", detached=True)
        site = Sandbox(home, estate)
        stack = _stack(site)
        _start_services(site, stack)
        estate.up()
        demo_hosts.stop_the_mirror(estate)
    else:
        _say("the six hosts run already; they start over with the old packages")
        for host in estate:
            host.reset()
        site = Sandbox(folder(), estate)
        stack = _stack(site)
        _start_services(site, stack)
    demo_hosts.configure(estate)
    if not site.path.exists():
        site.write()
    _write_env(site, stack)
    if not stack.runs("server"):
        _say("starting a Prefect server (SQLite) and the MSP's worker")
        stack.start_server()
    if not stack.runs("worker-msp"):
        stack.start_worker("msp")
    stack.deploy(site.prefect_yaml())
    stack.prefect("deployment", "run", "escalate/every-5-minutes")  # so that somebody watches from the start
    return site, stack


def _start_services(site: Sandbox, stack: PrefectStack) -> None:
    """The mail sink and the directory."""
    if not stack.runs("mail"):
        stack.start("mail", [sys.executable, "-m", "tests.lab.demo_mail", site.sink.folder])
    if not stack.runs("directory"):
        stack.start("directory", demo_directory.keeper(site.directory, f"{_estate_name()}-dir"))


def _write_env(site: Sandbox, stack: PrefectStack) -> None:
    """What `source tools/demo-env` reads: the settings, the command, and the people's keys."""
    wanted = ("LAMPLIGHTER_", "PREFECT_")
    settings = {name: value for name, value in stack.env.items() if name.startswith(wanted)}
    settings |= {who.partition(".")[0].upper(): str(site.key(who)) for who in APPROVERS}
    lines = [f"export {name}={shlex.quote(value)}\n" for name, value in settings.items()]
    file = site.folder / "env"
    file.touch(mode=0o600)
    file.write_text("".join([f'export PATH={shlex.quote(str(BIN))}:"$PATH"\n', *lines]), encoding="utf-8")


def down() -> int:
    """Stop server and workers, take the hosts down, remove the folder."""
    home = folder()
    PrefectStack(home / "prefect").stop()
    try:
        Estate.attach(_estate_name()).down()
    except LabError:
        Estate.sweep()
    shutil.rmtree(home, ignore_errors=True)
    _say("the demo is gone: no process, mount, namespace or file of it is left")
    return 0


def attach() -> tuple[Sandbox, PrefectStack]:
    """Get hold of the demo that is up.

    Errors: LabError when its hosts or its server are not.
    """
    site = Sandbox(folder(), Estate.attach(_estate_name()))
    stack = _stack(site)
    if not stack.runs("server"):
        raise LabError("the demo's Prefect server does not run; start it with `make demo`")
    return site, stack


def _estate_name() -> str:
    """Estates are known by name on the whole machine; each folder's demo has its own."""
    return f"demo-{hashlib.sha256(str(folder()).encode()).hexdigest()[:6]}"


def _running_estate() -> Estate | None:
    try:
        return Estate.attach(_estate_name())
    except LabError:
        return None


def _stack(site: Sandbox) -> PrefectStack:
    return PrefectStack(site.folder / "prefect", port=PORT, env=site.env, stays=True)


def _start(stack: PrefectStack, deployment: str) -> str:
    """Start a deployment as an operator would in the UI. Returns: the run's id."""
    answer = stack.prefect(
        "deployment", "run", f"patch-linux/{deployment}", "--param", f"requester={REQUESTER}",
        "--param", "change_ref=CHG-1042",
    )
    flow_run = next(word for word in answer.split() if len(word) == 36 and word.count("-") == 4)
    return PrefectApi(stack).run_id(flow_run)


def _follow(stack: PrefectStack, run: str, until: set[str]) -> str:
    """Print what the ledger says as it grows, until the run is in one of those states. Returns: it."""
    told: set[str] = set()
    end = time.monotonic() + 600
    while time.monotonic() < end:
        time.sleep(1)
        listed = json.loads(stack.lamplighter("runs", "--site", SITE, "--json"))
        state = next((row["state"] for row in listed if row["run"] == run), "")
        if state:
            _tell_hosts(stack, run, told)
        if state in until:
            return str(state)
    raise LabError(f"{run} did not get anywhere in 10 minutes; its logs are in the Prefect UI")


def _tell_hosts(stack: PrefectStack, run: str, told: set[str]) -> None:
    shown = json.loads(stack.lamplighter("show", run, "--json"))
    for host in shown["hosts"]:
        if host["host"] not in told:
            told.add(host["host"])
            print(f"    {host['host']:<8} {host['terminal']:<10} {host['message'][:110]}", flush=True)


def _by_hand(stack: PrefectStack, site: Sandbox, run: str) -> None:
    _say(
        f"it waits for you. In another terminal, in this checkout:\n\n    source tools/demo-env\n"
        f'    lamplighter approve {run} --key "$ASHA"\n\n'
        f"or in the browser: {stack.url}/v2/runs, open {run}, Resume, and paste what this prints:\n\n"
        f'    lamplighter approve {run} --key "$ASHA" --print\n\n'
        f"The approvers' mail: {site.sink.url}\n"
    )


def _explore(stack: PrefectStack, site: Sandbox, run: str, yours: str) -> str:
    host = site.estate["web1"].address
    return f"""everything stays up. Go on, in any shell in this checkout:

    source tools/demo-env                          # lamplighter speaks to this demo from here on
    lamplighter show {run}
    lamplighter verify --site {SITE}
    lamplighter runs                               # {yours} waits:
    lamplighter approve {yours} --key "$ASHA"

    the runs:       {stack.url}/v2/runs
    the mail:       {site.sink.url}
    on demand:      {stack.url}/v2/deployments; Run, with requester {REQUESTER}
    a forgotten password: reset-password/service-desk for {", ".join(demo_directory.PEOPLE)};
                    $KIRAN signs for it, and the new password goes to the manager's mail
    by themselves:  patch-linux/staging-hourly, expiring-passwords/hourly, escalate/every-5-minutes
    a host:         ssh -i {site.estate.client_key} ops@{host}
    the end:        make demo-down"""


def _show(stack: PrefectStack, *words: str) -> None:
    """Run a lamplighter command with its output going straight to the reader."""
    done = subprocess.run(
        [str(BIN / "lamplighter"), *words], check=False, env={**os.environ, **stack.env}, cwd=ROOT
    )
    if done.returncode:
        raise LabError(f"lamplighter {words[0]} ended with {done.returncode}")


def _say(text: str) -> None:
    print(f"==> {text}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
