# The detached unit that patches: installs what was downloaded before, and keeps the marks of packages
# that came in as dependencies. usage: LOCK_SECONDS "AUTO NAMES", then what apt-get install takes
lock_seconds=$1 auto=$2
shift 2

apt_get -y -o DPkg::Lock::Timeout="$lock_seconds" install "$@" </dev/null
code=$?
set -f
# shellcheck disable=SC2086 # names, separated by blanks
[ -z "$auto" ] || apt_mark auto $auto >/dev/null || echo "the marks of automatic packages were not kept"
exit $code
