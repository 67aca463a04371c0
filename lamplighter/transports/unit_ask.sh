# Says whether a unit could be started here: prints ready, or "refused WHY".
why=$(obstacle "$1")
[ -n "$why" ] || why=$(mkdir -p "$base" 2>&1)
[ -n "$why" ] || [ -w "$base" ] || why="$base cannot be written to"
if [ -n "$why" ]; then echo "refused $why"; else echo ready; fi
