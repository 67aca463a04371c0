# Read in front of every script that calls apt or dpkg: the one way they are called here, by their own paths
# and with every setting of the host set back that alters what they print or do. What the host's owner
# decided (holds, pins, hooks, architectures, recommended packages) is left as it is.
unset APT_CONFIG DPKG_FORCE DPKG_ROOT DPKG_ADMINDIR DPKG_COLORS DPKG_FRONTEND_LOCKED 2>/dev/null
apt_bin=/usr/bin
# Restarting services under our feet is needrestart's habit; the plan has a reboot, or shows what is left.
export DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical APT_LISTCHANGES_FRONTEND=none \
    NEEDRESTART_SUSPEND=1 NEEDRESTART_MODE=l UCF_FORCE_CONFFOLD=1

# A folder for what apt is to read from us; gone when the script ends.
ours=
for folder in /run /var/lib/apt /tmp; do
    ours=$(mktemp -d "$folder/lamplighter-apt.XXXXXX" 2>/dev/null) && break
done
trap 'rm -rf "$ours"' EXIT
trap 'exit 129' HUP INT TERM

dpkg_keeps="--refuse-confnew --refuse-confmiss --refuse-confask --force-confdef --force-confold"
# Read by apt after the host's own files (apt-get(8), -c), so it wins; #clear empties a list (apt.conf(5)).
cat >"$ours/apt.conf" <<'SETTINGS'
#clear Debug;
#clear APT::Solver;
#clear APT::Status-Fd;
#clear DPkg::NoTriggers;
#clear DPkg::ConfigurePending;
#clear DPkg::TriggersPending;
#clear DPkg::Options;
DPkg::Options { "--refuse-confnew"; "--refuse-confmiss"; "--refuse-confask"; "--force-confdef"; "--force-confold"; };
DPkg::Use-Pty "false";
DPkg::Progress "false";
DPkg::Progress-Fancy "false";
quiet "1";
quiet::NoStatistic "false";
APT::Color "false";
APT::Output-Version "0";
APT::Update::Error-Mode "any";
APT::Default-Release "";
APT::Ignore-Hold "false";
APT::Mark::Simulate "false";
APT::Get::Simulate "false";
APT::Get::Download-Only "false";
APT::Get::Download "true";
APT::Get::Print-URIs "false";
APT::Get::Assume-No "false";
APT::Get::Trivial-Only "false";
APT::Get::Fix-Missing "false";
APT::Get::Fix-Broken "false";
APT::Get::Force-Yes "false";
APT::Get::Allow-Change-Held-Packages "false";
APT::Get::Allow-Downgrades "false";
APT::Get::Allow-Remove-Essential "false";
APT::Get::Allow-Solver-Remove-Essential "false";
APT::Get::AllowUnauthenticated "false";
APT::Get::Upgrade "true";
APT::Get::Upgrade-Allow-New "false";
APT::Get::Only-Upgrade "false";
APT::Get::ReInstall "false";
APT::Get::Remove "true";
APT::Get::Purge "false";
APT::Get::AutomaticRemove "false";
APT::Get::AutomaticRemove::Kernels "false";
APT::Get::Mark-Auto "false";
APT::Get::Show-Upgraded "true";
APT::Get::Show-Versions "false";
APT::Get::Show-User-Simulation-Note "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowWeakRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
SETTINGS

apt_get() { "$apt_bin/apt-get" -c "$ours/apt.conf" "$@"; }
apt_cache() { "$apt_bin/apt-cache" -c "$ours/apt.conf" "$@"; }
apt_mark() { "$apt_bin/apt-mark" -c "$ours/apt.conf" "$@"; }
dpkg() { "$apt_bin/dpkg" "$@"; }
dpkg_query() { "$apt_bin/dpkg-query" "$@"; }
hosts_own() { "$apt_bin/apt-config" dump "$@"; } # what the host says, nothing of ours

# Every package dpkg knows, after the native architecture; then updates dpkg was interrupted in.
packages() {
    echo "native $(dpkg --print-architecture)"
    dpkg_query -W -f='${db:Status-Abbrev}\t${Package}\t${Architecture}\t${Version}\n'
    for file in /var/lib/dpkg/updates/[0-9]*; do
        if [ -e "$file" ]; then
            echo "interrupted"
            break
        fi
    done
}

# Who holds the locks of dpkg, of the downloaded packages and of the lists: "PID NAME FILE" a line. The
# command line is left out: it could hold a secret.
lock_holders() {
    for file in /var/lib/dpkg/lock-frontend /var/lib/dpkg/lock /var/cache/apt/archives/lock /var/lib/apt/lists/lock; do
        inode=$(stat -c %i "$file" 2>/dev/null) || continue
        awk -v inode=":$inode" '$2 == "POSIX" && substr($6, length($6) - length(inode) + 1) == inode {
            print $5 }' /proc/locks | while read -r pid; do
            if ls -l "/proc/$pid/fd" 2>/dev/null | grep -qF "$file"; then
                echo "$pid $(cat "/proc/$pid/comm") $file"
            fi
        done
    done | sort -u
}

# await_lock SECONDS: wait for the locks to be free, then print who still holds them.
await_lock() {
    left=$1
    while [ "$left" -gt 0 ] && [ -n "$(lock_holders)" ]; do
        sleep 1
        left=$((left - 1))
    done
    lock_holders
}

# Hooks that remount what is mounted read-only or noexec by design, and other settings that decide.
decides() {
    hosts_own | grep -iE '^(DPkg::Pre-Invoke|APT::Update::Pre-Invoke|Unattended-Upgrade::Package-(Blacklist|Whitelist))'
    return 0
}

# The mounts that packages and their scripts are written to, and all that lies in memory; what is in /boot,
# and which packages rebuild the initial ramdisk there.
room() {
    awk '$2 ~ "^/(usr|etc|boot|var|var/lib|var/lib/dpkg|var/lib/dpkg/.*|tmp)?$" || $3 ~ "^(tmpfs|ramfs)$" {
        print "mount", $1, $2, $3, $4 }' /proc/self/mounts
    for file in /boot/initrd* /boot/initramfs* /boot/vmlinu* /boot/*Image-* /boot/kernel*; do
        [ -f "$file" ] && [ ! -L "$file" ] && echo "boot $(stat -c %s "$file") $file"
    done
    grep -lsE 'update-initramfs|dracut' /var/lib/dpkg/info/*.postinst /var/lib/dpkg/info/*.triggers |
        sed 's|.*/|ramdisk |; s|\.[a-z]*$||' | sort -u
    return 0
}
