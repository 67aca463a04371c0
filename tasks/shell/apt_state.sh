# Read how a host stands after a change. usage: MARK
mark=$1

last_history() { awk 'BEGIN { RS = "" } { last = $0 } END { print last }' /var/log/apt/history.log; }

# Services that still run a program or library whose file was replaced (proc_pid_maps(5)): "UNIT FILE" a line.
old_code() {
    timeout 30 grep -HE ' r-xp .* /(usr|lib|lib64|bin|sbin|opt)/.* \(deleted\)$' /proc/[0-9]*/maps 2>/dev/null |
        sed -nE 's|^/proc/([0-9]+)/maps:.* (/.*) \(deleted\)$|\1 \2|p' | sort -u |
        while read -r pid file; do
            unit=$(sed -nE 's|^.*/([^/]+\.service)(/.*)?$|\1|p' "/proc/$pid/cgroup" 2>/dev/null | head -n 1)
            echo "${unit:-$(cat "/proc/$pid/comm" 2>/dev/null)} $file"
        done | sort -u | head -n 200
    return 0
}

part boot_id boot_id
part kernels kernels
part lock lock_holders
part packages packages
part audit dpkg --audit
part reboot reboot_required
part services services
part history last_history
part old_code old_code
