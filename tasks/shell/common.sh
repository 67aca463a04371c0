# Read together with each script that uses it, in front of it. Functions only.
# A script's first argument is its mark: random, so that nothing a host prints can be taken for one.
set -u
umask 022
export LC_ALL=C.UTF-8 LANGUAGE= PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# part NAME COMMAND...: run one reading and print it between marks, with its exit code.
part() {
    part_name=$1
    shift
    printf '\n--%s begin %s\n' "$mark" "$part_name"
    "$@" 2>&1 </dev/null
    printf '\n--%s end %s %s\n' "$mark" "$part_name" "$?"
}

clock() { date +%s.%N; }
boot_id() { cat /proc/sys/kernel/random/boot_id; }

kernels() {
    uname -r
    for image in /boot/vmlinuz-*; do
        if [ -e "$image" ]; then echo "${image#/boot/vmlinuz-}"; fi
    done
}

# Free space and inodes in POSIX columns, and what of it root may not write to.
space() {
    for path in "$@"; do
        [ -e "$path" ] || continue
        df -P -k "$path" | tail -n 1 | sed "s|^|kb $path |"
        df -P -i "$path" | tail -n 1 | sed "s|^|inodes $path |"
        [ -w "$path" ] || echo "readonly $path"
    done
}

# Every unit as systemd sees it, or the System V services with a status.
services() {
    if [ -d /run/systemd/system ]; then
        echo systemd
        systemctl show --all --no-pager --property=Id,ActiveState,SubState,UnitFileState '*'
    elif command -v service >/dev/null; then
        echo sysv
        timeout 30 service --status-all
    else
        echo none
    fi
}

# Who holds dpkg's locks: "PID NAME" a line. The command line is left out: it could hold a secret.
lock_holders() {
    for file in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock; do
        inode=$(stat -c %i "$file" 2>/dev/null) || continue
        awk -v inode=":$inode" '$2 == "POSIX" && substr($6, length($6) - length(inode) + 1) == inode {
            print $5 }' /proc/locks | while read -r pid; do
            if ls -l "/proc/$pid/fd" 2>/dev/null | grep -qF "$file"; then
                echo "$pid $(cat "/proc/$pid/comm")"
            fi
        done
    done | sort -u
}

# await_lock SECONDS: wait for dpkg's locks to be free, then print who still holds them.
await_lock() {
    left=$1
    while [ "$left" -gt 0 ] && [ -n "$(lock_holders)" ]; do
        sleep 1
        left=$((left - 1))
    done
    lock_holders
}

# Every package dpkg knows, after the native architecture; then updates dpkg was interrupted in.
packages() {
    echo "native $(dpkg --print-architecture)"
    dpkg-query -W -f='${db:Status-Abbrev}\t${Package}\t${Architecture}\t${Version}\n'
    for file in /var/lib/dpkg/updates/[0-9]*; do
        if [ -e "$file" ]; then
            echo "interrupted"
            break
        fi
    done
}

reboot_required() {
    [ -e /run/reboot-required ] || [ -e /var/run/reboot-required ] || return 1
    cat /run/reboot-required.pkgs 2>/dev/null || cat /var/run/reboot-required.pkgs 2>/dev/null || :
}
