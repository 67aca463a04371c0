# Read together with each script that uses it, in front of it. Functions only.
# A script's first argument is its mark: random, so that nothing a host prints can be taken for one.
set -u
umask 022
export LC_ALL=C.UTF-8 LANGUAGE= PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# part NAME COMMAND...: run one reading and print it between marks: its standard output, what it said on
# standard error, its exit code.
part() {
    part_name=$1
    shift
    printf '\n--%s begin %s\n' "$mark" "$part_name"
    { part_said=$("$@" 2>&1 >&3 3>&- </dev/null); } 3>&1
    part_code=$?
    printf '\n--%s said %s\n%s\n--%s end %s %s\n' "$mark" "$part_name" "$part_said" "$mark" "$part_name" "$part_code"
}

clock() { date +%s.%N; }
boot_id() { cat /proc/sys/kernel/random/boot_id; }

# The running kernel, those installed under whatever name, and what the boot loader is told to boot.
kernels() {
    uname -r
    for image in /boot/vmlinu[xz]-* /boot/*Image-* /boot/kernel-*; do
        if [ -e "$image" ] && [ ! -L "$image" ]; then echo "${image#/boot/*-}"; fi
    done
    for file in /etc/kernel/proxmox-boot-pin /etc/kernel/next-boot-pin; do
        [ ! -r "$file" ] || sed "s|^|pinned $file |" "$file"
    done
    for file in /etc/default/grub /etc/default/grub.d/*.cfg; do
        [ ! -r "$file" ] || sed -n "s|^GRUB_DEFAULT=|pinned $file |p" "$file"
    done
    for file in /boot/loader/loader.conf /boot/efi/loader/loader.conf /efi/loader/loader.conf; do
        [ ! -r "$file" ] || sed -nE "s|^default[[:space:]]+|pinned $file |p" "$file"
    done
    ! grep -qsE "^GRUB_DEFAULT=[\"']?saved" /etc/default/grub /etc/default/grub.d/*.cfg || sed -nE 's/^(saved|next)_entry=(.+)/pinned \/boot\/grub\/grubenv \2/p' /boot/grub/grubenv 2>/dev/null
    return 0
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

reboot_required() {
    [ -e /run/reboot-required ] || [ -e /var/run/reboot-required ] || return 1
    cat /run/reboot-required.pkgs 2>/dev/null || cat /var/run/reboot-required.pkgs 2>/dev/null || :
}
