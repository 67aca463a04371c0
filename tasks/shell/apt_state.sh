# Read how a host stands after a change; with "thorough", also what still runs old code. usage: MARK [thorough]
mark=$1

last_history() { awk 'BEGIN { RS = "" } { last = $0 } END { print last }' /var/log/apt/history.log; }
old_code() { command -v needrestart >/dev/null && NEEDRESTART_MODE=l timeout 60 needrestart -b -r l; }

part boot_id boot_id
part kernels kernels
part lock lock_holders
part packages packages
part audit dpkg --audit
part reboot reboot_required
part services services
part history last_history
[ "${2:-}" != thorough ] || part old_code old_code
