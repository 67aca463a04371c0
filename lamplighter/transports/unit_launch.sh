# Claims an attempt and starts its runner. $3 attempt, $4 script, $5 runner. Prints begun, exists or unstarted.
mkdir -p "$unit" || exit 1
a=$unit/$3
n=1
while [ "$n" -lt "$3" ]; do
	[ "$(readlink "$unit/$n/go" 2>/dev/null)" = fenced ] || { echo exists; exit; }
	n=$((n + 1))
done
if ! mkdir "$a" 2>/dev/null; then
	[ -d "$a" ] && { echo exists; exit; }
	mkdir "$a"
	exit 1
fi
if ! { printf %s "$4" >"$a/script" && printf %s "$5" >"$a/runner"; }; then
	ln -s fenced "$a/go"
	exit 1
fi
# Where systemd is, its own unit: a login session's end must not take the runner along. Should it be started
# twice, by a systemd-run that failed late, `go` lets one begin.
if ! { [ "$1" = system ] && [ -d /run/systemd/system ] && systemd-run --quiet --collect \
	--property=KillMode=process --unit="lamplighter-$2-$3" sh "$a/runner" "$a" "$mask" >/dev/null 2>&1; }
then
	setsid sh "$a/runner" "$a" "$mask" >/dev/null 2>&1 &
fi
n=0
until [ -h "$a/go" ] || [ "$n" -gt 100 ]; do
	nap 0.0$((n < 10 ? 1 : 5))
	n=$((n + 1))
done
if ln -s fenced "$a/go" 2>/dev/null; then echo unstarted; else echo begun; fi
# Three months later the claim is all that is needed; the output goes.
find "$base" -name rc -mtime +90 2>/dev/null | while IFS= read -r old; do
	old=${old%/rc}
	rm -f "$old/out" "$old/err" "$old/script" "$old/runner"
done
