# Says what became of a unit. Prints absent and the next attempt, or running, finished, lost.
# Absent is a promise: whatever was sent to start the unit before now is fenced off for ever.
last_attempt
if [ ! -h "$a/go" ]; then
	mkdir -p "$unit" || exit 1
	if ! mkdir "$a" 2>/dev/null; then
		[ -d "$a" ] || exit 1
		n_grace=0 # claimed a moment ago: it is about to begin
		until [ -h "$a/go" ] || [ "$n_grace" -ge 20 ]; do
			nap 0.1
			n_grace=$((n_grace + 1))
		done
	fi
	if ln -s fenced "$a/go" 2>/dev/null; then
		sync "$a" "$unit" 2>/dev/null
		echo "absent $((n + 1))"
		exit
	fi
	[ -h "$a/go" ] || exit 1
fi
[ "$(readlink "$a/go")" = fenced ] && { echo "absent $((n + 1))"; exit; }
judge
