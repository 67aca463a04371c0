# The detached unit that patches: installs what was downloaded before, and keeps the marks of packages
# that came in as dependencies. usage: LOCK_SECONDS "AUTO NAMES", then what apt-get install takes
lock_seconds=$1 auto=$2
shift 2
export DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical APT_LISTCHANGES_FRONTEND=none
# Restarting services under our feet is needrestart's habit; the plan has a reboot, or shows what is left.
export NEEDRESTART_SUSPEND=1 NEEDRESTART_MODE=l UCF_FORCE_CONFFOLD=1

apt-get -q -y -o DPkg::Lock::Timeout="$lock_seconds" -o Dpkg::Use-Pty=0 \
    -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold install "$@" </dev/null
code=$?
set -f
# shellcheck disable=SC2086 # names, separated by blanks
[ -z "$auto" ] || apt-mark auto $auto >/dev/null || echo "the marks of automatic packages were not kept"
exit $code
