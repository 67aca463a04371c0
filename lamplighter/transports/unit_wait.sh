# Waits some seconds for a unit to end. $3 seconds, $4 cap in bytes.
# Prints absent, running or lost; or "finished CODE SIZE SIZE" and its output, its errors on standard error.
excerpt() {
	[ -f "$1" ] || return 0
	if [ "$2" -le "$3" ]; then
		head -c "$3" "$1"
	else
		head -c "$(($3 / 2))" "$1"
		printf '\n[... %s bytes left out ...]\n' "$(($2 - $3 / 2 * 2))"
		tail -c "$(($3 / 2))" "$1"
	fi
}
size() { if [ -f "$1" ]; then wc -c <"$1" | tr -d ' '; else echo 0; fi; }

last_attempt
[ -d "$a" ] || { echo absent; exit; }
end=$(($(date +%s) + $3))
i=0
state=running
until [ "$state" != running ] || [ "$(date +%s)" -ge "$end" ]; do
	if [ -h "$a/go" ]; then state=$(judge); fi
	[ "$state" = running ] || break
	i=$((i + 1))
	nap "$( [ "$i" -lt 20 ] && echo 0.05 || { [ "$i" -lt 40 ] && echo 0.2 || echo 1; } )"
done
[ "$state" = finished ] || { echo "$state"; exit; }
out=$(size "$a/out")
err=$(size "$a/err")
echo "finished $(cat "$a/rc") $out $err"
excerpt "$a/out" "$out" "$4"
excerpt "$a/err" "$err" "$4" >&2
