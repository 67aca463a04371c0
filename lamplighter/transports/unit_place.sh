# What every unit script begins with. $1 system|user, $2 unit.
#
# UNIT/1, UNIT/2 ... are attempts to start the unit. An attempt's claim is its directory, made by mkdir; its
# beginning is the symbolic link `go`, made by ln -s. Both are atomic: exactly one maker wins. `go` reads
# either "pid,start time,boot id" of the runner, or "fenced": then this attempt can never begin, and only then
# may there be a next one.
umask 077 # its own files are private; the script in it sets what it has for what it makes
case $1 in
system) base=/var/lib/lamplighter/units ;;
*) base=${HOME:?}/.local/state/lamplighter/units ;;
esac
unit=$base/$2

nap() { sleep "$1" 2>/dev/null || sleep 1; }

# Sets n to the first attempt that is not fenced off, and a to its directory.
last_attempt() {
	n=1
	while [ "$(readlink "$unit/$n/go" 2>/dev/null)" = fenced ]; do n=$((n + 1)); done
	a=$unit/$n
}

# Is process $1 the one that started at $2? (proc(5): fields 3 and 22 of stat, counted after the name.)
is_running() {
	want=$2
	IFS= read -r stat 2>/dev/null <"/proc/$1/stat" || return 1
	set -- ${stat##*) }
	[ "${20}" = "$want" ] && [ "$1" != Z ]
}

# Does any process live in session $1? It may have outlived the runner that led it.
has_session() {
	for file in /proc/[0-9]*/stat; do
		IFS= read -r stat 2>/dev/null <"$file" || continue
		set -- "$1" ${stat##*) }
		[ "$5" = "$1" ] && [ "$2" != Z ] && return 0
	done
	return 1
}

# Prints finished, or damaged when the record of the end is none: "CODE whole" or "CODE cut".
finished() {
	IFS=' ' read -r code how rest <"$a/rc"
	case $code.$how in
	[0-9].whole | [0-9][0-9].whole | [0-9][0-9][0-9].whole | [0-9].cut | [0-9][0-9].cut | [0-9][0-9][0-9].cut) echo finished ;;
	*) echo damaged ;;
	esac
}

# Prints finished, damaged, running or lost, for a unit that began.
judge() {
	[ -f "$a/rc" ] && finished && return
	go=$(readlink "$a/go")
	pid=${go%%,*}
	started=${go#*,}
	boot=${started#*,}
	started=${started%%,*}
	IFS= read -r now </proc/sys/kernel/random/boot_id
	if [ "$boot" = "$now" ] && { is_running "$pid" "$started" || { [ ! -d "/proc/$pid" ] && has_session "$pid"; }; }
	then
		echo running
	elif [ -f "$a/rc" ]; then
		finished
	else
		echo lost
	fi
}
