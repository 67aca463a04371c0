# Says whether a unit could be started here: prints ready, or "refused WHY". Changes nothing.
why=$(obstacle "$1")
place=$base
until [ -d "$place" ]; do place=${place%/*} && place=${place:-/}; done
[ -n "$why" ] || [ -w "$place" ] || why="$place is read-only, or not to be written to"
if [ -z "$why" ]; then
	set -- $(df -P -k "$place" | tail -n 1)
	[ "${4:-0}" -ge 64 ] || why="the file system of $place is full"
fi
if [ -n "$why" ]; then echo "refused $why"; else echo ready; fi
