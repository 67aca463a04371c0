# Waits some seconds for a unit to end. $3 seconds, $4 cap in bytes.
# Prints absent, running, lost or damaged; or "finished CODE HOW SIZE SIZE" and its output, its errors on standard error.
excerpt() {
	[ -f "$1" ] || return 0
	if [ "$2" -le "$3" ]; then
		head -c "$2" "$1" # more may have come since it was measured, from what the unit left running
	else
		head -c "$(($3 / 2))" "$1"
		printf '\n[... %s bytes left out ...]\n' "$(($2 - $3 / 2 * 2))"
		tail -c "$(($3 / 2))" "$1"
	fi
}
size() { if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }

last_attempt
[ -d "$a" ] || { echo absent; exit; }
seconds() { IFS=. read -r up rest </proc/uptime; } # no clock that is set meanwhile
seconds
end=$((up + $3))
i=0
state=running
until [ "$state" != running ] || [ "$up" -ge "$end" ]; do
	if [ -h "$a/go" ]; then state=$(judge); fi
	[ "$state" = running ] || break
	seconds
	i=$((i + 1))
	nap "$( [ "$i" -lt 20 ] && echo 0.05 || { [ "$i" -lt 40 ] && echo 0.2 || echo 1; } )"
done
[ "$state" = finished ] || { echo "$state"; exit; }
out=$(size "$a/out")
err=$(size "$a/err")
IFS=' ' read -r code how rest <"$a/rc"
echo "finished $code $how $out $err"
excerpt "$a/out" "$out" "$4"
excerpt "$a/err" "$err" "$4" >&2
