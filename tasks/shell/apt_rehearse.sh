# Rehearse exactly what is to be installed, and read what that needs; with "download", fetch it too.
# usage: MARK download|rehearse|ask LOCK_SECONDS, then what apt-get install takes; "ask" only rehearses
mark=$1 how=$2 lock_seconds=$3
shift 3

# Names alone: options, versions and the minus of a removal taken off.
names() {
    for word in "$@"; do
        case $word in -*) continue ;; esac
        word=${word%%=*}
        echo "${word%-}"
    done
}

sizes() { apt_get -y --print-uris install "$@" | grep -v "^'"; }

# "wanted MD5 PATH" as the packages shipped it, then "actual MD5 PATH" of what is there.
conffiles() {
    wanted=$(names "$@" | xargs -r /usr/bin/dpkg-query -W -f='${Conffiles}\n' 2>/dev/null | sed -n 's/^ //p')
    printf '%s\n' "$wanted" | while read -r path sum flag; do
        [ -n "$path" ] && [ "${flag:-}" != obsolete ] || continue
        echo "wanted $sum $path"
        [ -r "$path" ] && md5sum "$path" | sed 's/^\([^ ]*\)  */actual \1 /'
    done
    return 0
}

fetch() { # the lock of the downloaded packages knows no waiting time, so try again while it is held
    tries=0
    while :; do
        said=$(timeout 1800 "$apt_bin/apt-get" -c "$ours/apt.conf" -y --download-only \
            -o DPkg::Lock::Timeout="$lock_seconds" -o Acquire::Retries=2 install "$@" 2>&1)
        code=$?
        tries=$((tries + 3))
        case $said in *'Could not get lock /var/cache/apt/archives'*) ;; *) break ;; esac
        [ "$tries" -le "$lock_seconds" ] || break
        sleep 3
    done
    printf '%s\n' "$said"
    return $code
}

part rehearsal apt_get -s -y install "$@"
case $how in
download)
    part space space / /usr /boot /var /var/cache/apt/archives /tmp
    part ground room
    part decides decides
    part auto apt_mark showauto
    part fetch fetch "$@"
    ;;
rehearse)
    part sizes sizes "$@"
    part conffiles conffiles "$@"
    ;;
esac
