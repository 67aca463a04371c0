# Rehearse exactly what is to be installed, and read what that needs; with "download", fetch it too.
# usage: MARK download|rehearse LOCK_SECONDS, then what apt-get install takes
mark=$1 download=$2 lock_seconds=$3
shift 3

# Names alone: options, versions and the minus of a removal taken off.
names() {
    for word in "$@"; do
        case $word in -*) continue ;; esac
        word=${word%%=*}
        echo "${word%-}"
    done
}

sizes() { apt-get -q -y --print-uris install "$@" | grep -v "^'"; }

# "wanted MD5 PATH" as the packages shipped it, then "actual MD5 PATH" of what is there.
conffiles() {
    wanted=$(names "$@" | xargs -r dpkg-query -W -f='${Conffiles}\n' 2>/dev/null | sed -n 's/^ //p')
    printf '%s\n' "$wanted" | while read -r path sum flag; do
        [ -n "$path" ] && [ "${flag:-}" != obsolete ] || continue
        echo "wanted $sum $path"
        [ -r "$path" ] && md5sum "$path" | sed 's/^\([^ ]*\)  */actual \1 /'
    done
    return 0
}

fetch() {
    DEBIAN_FRONTEND=noninteractive timeout 1800 apt-get -q -y --download-only \
        -o DPkg::Lock::Timeout="$lock_seconds" -o Acquire::Retries=2 install "$@"
}

part space space / /usr /boot /var /var/cache/apt/archives /tmp
part rehearsal apt-get -s -q -y install "$@"
if [ "$download" = download ]; then
    part auto apt-mark showauto
    part fetch fetch "$@"
else
    part sizes sizes "$@"
    part conffiles conffiles "$@"
fi
