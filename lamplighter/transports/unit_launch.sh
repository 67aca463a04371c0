# Claims an attempt and starts its runner. $3 attempt, $4 script, $5 runner.
# Prints begun, exists, or "refused WHY": then nothing was started, and nothing will be.
refuse() {
	echo "refused $*"
	exit 0
}
why=$(obstacle "$1")
[ -z "$why" ] || refuse "$why"
why=$(mkdir -p "$unit" 2>&1) || refuse "$why"
a=$unit/$3
n=1
while [ "$n" -lt "$3" ]; do
	[ "$(readlink "$unit/$n/go" 2>/dev/null)" = fenced ] || { echo exists; exit; }
	n=$((n + 1))
done
if ! why=$(mkdir "$a" 2>&1); then
	[ -d "$a" ] && { echo exists; exit; }
	refuse "$why"
fi
# The record of the end has its place from the start: no full disk can keep it from being written.
if ! { printf %s "$4" >"$a/script" && printf %s "$5" >"$a/runner" && printf '%4095s\n' ' ' >"$a/rc.spare"; } 2>/dev/null
then
	why=$(printf '%4095s\n' ' ' | cat 2>&1 >"$a/rc.spare") # a shell's own words do not say what is wrong
	ln -s fenced "$a/go" 2>/dev/null
	refuse "$base cannot be written to: $why"
fi
# Where systemd is, its own unit: a login session's end must not take the runner along. Should it be started
# twice, by a systemd-run that failed late, `go` lets one begin.
why=
if ! { with_systemd "$1" && why=$(systemd-run --quiet --collect --property=KillMode=process \
	--unit="lamplighter-$2-$3" sh "$a/runner" "$a" 2>&1 </dev/null); }
then
	if tied; then
		ln -s fenced "$a/go" 2>/dev/null && refuse "systemd-run failed: $why"
	else
		setsid sh "$a/runner" "$a" >/dev/null 2>&1 </dev/null &
	fi
fi
n=0
until [ -h "$a/go" ] || [ "$n" -gt 100 ]; do
	nap 0.0$((n < 10 ? 1 : 5))
	n=$((n + 1))
done
ln -s fenced "$a/go" 2>/dev/null && refuse "its process did not begin within some seconds${why:+, and systemd-run said: $why}"
[ -h "$a/go" ] || refuse "its beginning cannot be written: $(ln -s fenced "$a/go" 2>&1)"
echo begun
# Three months later the claim is all that is needed; the output goes.
find "$base" -name rc -mtime +90 2>/dev/null | while IFS= read -r old; do
	old=${old%/rc}
	rm -f "$old/out" "$old/err" "$old/script" "$old/runner" "$old/rc.spare"
done
