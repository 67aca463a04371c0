# Read what a patch plan depends on; refreshes the package lists and changes nothing else.
# usage: MARK SCOPE(security|all) LOCK_SECONDS
mark=$1 scope=$2 lock_seconds=$3

part clock clock
part os cat /etc/os-release
for tool in apt-get dpkg-query; do
    command -v "$tool" >/dev/null || { part missing echo "$tool"; exit 0; }
done

# What Debian's own table of releases says of this one.
release() {
    codename=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release | tr -d '"')
    for table in /usr/share/distro-info/debian.csv /usr/share/distro-info/ubuntu.csv; do
        if [ -n "$codename" ] && grep -qF ",$codename," "$table" 2>/dev/null; then
            head -n 1 "$table"
            grep -F ",$codename," "$table"
            return
        fi
    done
}

# apt takes no waiting time for the lock on its lists, so try again a few times.
refresh() {
    for try in 1 2 3 4 5; do
        [ "$try" = 1 ] || sleep 3
        said=$(timeout 240 apt-get update -q -o APT::Update::Error-Mode=any -o Acquire::Retries=1 \
            -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 2>&1)
        code=$?
        case $said in *'Could not get lock'*) ;; *) break ;; esac
    done
    printf '%s\n' "$said"
    return $code
}

# With only security archives preferred, apt itself tells which versions are security updates, also
# where a newer one without a fix exists. What is installed (archive "now") keeps its usual 100.
security_only() {
    cat <<'PINS'
Package: *
Pin: release a=now
Pin-Priority: 100

Package: *
Pin: release l=/[Ss]ecurity/
Pin-Priority: 500

Package: *
Pin: release a=/-security$/
Pin-Priority: 500

Package: *
Pin: release *
Pin-Priority: 50
PINS
}

simulate() {
    if [ "$scope" = all ]; then
        apt-get -s -q dist-upgrade
        return
    fi
    folder=/run
    [ -w "$folder" ] || folder=${TMPDIR:-/tmp}
    pins=$(mktemp "$folder/lamplighter-pins.XXXXXX") || return 1
    trap 'rm -f "$pins"' EXIT HUP INT TERM
    security_only >"$pins" && apt-get -s -q -o Dir::Etc::Preferences="$pins" --with-new-pkgs upgrade
}

others() { apt-get -s -q dist-upgrade | grep -c '^Inst'; }

part boot_id boot_id
part uptime cat /proc/uptime
part kernels kernels
part release release
part lock await_lock "$lock_seconds"
part space space / /usr /boot /var /var/cache/apt/archives /tmp
part packages packages
part audit dpkg --audit
part reboot reboot_required
part services services
part refresh refresh
part refreshed clock
part simulation simulate
[ "$scope" = all ] || part others others
part clock_end clock
