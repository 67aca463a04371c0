# Whether a unit begun here would live on: read in front of what starts one, or asks whether one could be started.

# Would what is started in this login, and leaves it no other way, be killed when the login ends? logind does
# that where it is told to, and systemd when the service that it is in is restarted.
tied() {
	scope=
	while IFS= read -r line; do
		case $line in 0::* | *:name=systemd:* | *:name=elogind:*) scope=${line##*:} ;; esac
	done </proc/self/cgroup
	case $scope in
	*/session-* | */user.slice/*) ;;
	*.service)
		case $(systemctl show --property=KillMode --value "${scope##*/}" 2>/dev/null) in
		process | none) return 1 ;;
		esac
		;;
	*) return 1 ;;
	esac
	case $(loginctl show-session --property=KillUserProcesses --value 2>/dev/null) in
	no) [ "${scope%.service}" != "$scope" ] ;;
	yes) return 0 ;;
	*) IFS= read -r init </proc/1/comm && [ "$init" = systemd ] ;; # nobody says: only without systemd it is safe
	esac
}

with_systemd() { [ "$1" = system ] && [ -d /run/systemd/system ] && command -v systemd-run >/dev/null; }

# Prints why no unit can be started here, if so.
obstacle() {
	{ IFS= read -r boot </proc/sys/kernel/random/boot_id && IFS= read -r stat </proc/self/stat; } 2>/dev/null || {
		echo "its /proc hides the boot id or the processes, so that no unit could be found again"
		return
	}
	with_systemd "$1" && return
	if tied; then
		echo "whatever this login starts ends with it (KillUserProcesses=yes), and systemd-run is not to be had"
	elif ! command -v setsid >/dev/null; then
		echo "it has neither systemd-run nor setsid (util-linux)"
	fi
}
