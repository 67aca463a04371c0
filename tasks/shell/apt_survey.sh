# Read what a patch plan depends on; refreshes the package lists and changes nothing else.
# usage: MARK SCOPE(security|all) LOCK_SECONDS
mark=$1 scope=$2 lock_seconds=$3

part clock clock
part os cat /etc/os-release
for tool in apt-get apt-cache dpkg-query; do
    [ -x "$apt_bin/$tool" ] || { part missing echo "$tool"; exit 0; }
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
        said=$(timeout 240 "$apt_bin/apt-get" -c "$ours/apt.conf" update -o Acquire::Retries=1 \
            -o Acquire::http::Timeout=30 -o Acquire::https::Timeout=30 2>&1)
        code=$?
        case $said in *'Could not get lock'*) ;; *) break ;; esac
    done
    printf '%s\n' "$said"
    return $code
}

# Where the sources stand: "FILE:LINE:TEXT".
entries() {
    grep -HnE '^[[:space:]]*(deb[[:space:]]|URIs:)' /etc/apt/sources.list /etc/apt/sources.list.d/*.list \
        /etc/apt/sources.list.d/*.sources 2>/dev/null
    return 0
}

# What each configured archive says of itself, and which of its lists are here. apt names all it would fetch.
archives() {
    eval "$("$apt_bin/apt-config" shell lists Dir::State::lists/d)"
    apt_get update --print-uris >"$ours/uris" || return
    while read -r url name _; do
        case $name in
        *InRelease)
            echo "archive $url"
            plain=$lists${name%InRelease}Release
            if [ -e "$lists$name" ]; then
                echo "signature $name" && about "$lists$name"
            elif [ -e "$plain" ]; then
                [ -e "$plain.gpg" ] && echo "signature $name.gpg"
                about "$plain"
            fi
            ;;
        *_Packages)
            size=absent
            for file in "$lists$name".*; do
                if [ -e "$file" ]; then size=packed; fi
            done
            [ ! -e "$lists$name" ] || size=$(stat -L -c %s "$lists$name")
            echo "list $url $size"
            ;;
        esac
    done <"$ours/uris"
    return 0
}
about() {
    grep -E '^(Origin|Label|Suite|Codename|Version|Date): |^ [0-9a-f]{64} +[0-9]+ ([^ ]*/binary-[^ /]*/)?Packages$' "$1"
}

# Every installed package with what is offered of it, "apt-cache policy" in a shorter spelling: "P NAME
# CANDIDATE", then newest first "V VERSION PRIORITY PHASED SOURCES" (* before the installed one), each source
# written once as "S NUMBER PRIORITY URI SUITE/COMPONENT ARCH".
offers() {
    dpkg_query -W -f='${db:Status-Status} ${Package}:${Architecture}\n' | sed -n 's/^installed //p' |
        sed "s/:all\$//; s/:$(dpkg --print-architecture)\$//" >"$ours/names"
    xargs -r "$apt_bin/apt-cache" -c "$ours/apt.conf" policy <"$ours/names" | awk '
        function flush() { if (line != "") print line; line = "" }
        /^[^ ]/ { flush(); name = $1; sub(/:$/, "", name); next }
        /^  Candidate:/ { print "P", name, $2; next }
        /^ \*\*\* / { flush(); line = "V *" $2 " " $3 " " phase() " "; next }
        /^     [^ ]/ { flush(); line = "V " $1 " " $2 " " phase() " "; next }
        /^        / { key = $0; if (!(key in id)) { id[key] = ++n; sub(/^ +/, "", key); print "S", n, key; key = $0 }
            line = line id[key] "," }
        function phase() { return match($0, /phased [0-9]+/) ? substr($0, RSTART + 7, RLENGTH - 7) : "-" }
        END { flush() }'
}

# Packages that are there to bring kernels: "NAME DEPENDS".
kernel_packages() {
    dpkg_query -W -f='${db:Status-Status} ${Package} ${Depends}\n' | sed -n 's/^installed //p' |
        grep -E '^[^ ]*(linux-image|linux-generic|linux-virtual|kernel)|[ |](linux-image|[a-z]+-kernel)-'
    return 0
}

known() { case $2 in '#'*) ;; *) getent "$1" "$2" >/dev/null ;; esac; }
# What makes dpkg fail although its rehearsal does not, and what stands in the way of using the change.
ground() {
    room
    [ ! -e /var/lib/dpkg/statoverride ] || while read -r user group _ path; do
        [ -n "$path" ] || continue
        known passwd "$user" || echo "override user $user $path"
        known group "$group" || echo "override group $group $path"
    done </var/lib/dpkg/statoverride
    for file in /etc/dpkg/dpkg.cfg /etc/dpkg/dpkg.cfg.d/*; do
        [ -r "$file" ] && sed -nE "s|^[[:space:]]*(no-act\|dry-run\|simulate\|root\|instdir\|admindir)([ =].*)?\$|dpkg \1 $file|p" "$file"
    done
    if [ -x /usr/sbin/policy-rc.d ]; then
        for script in lamplighter-asks /etc/init.d/*; do
            timeout 5 /usr/sbin/policy-rc.d "${script##*/}" restart >/dev/null 2>&1
            code=$?
            echo "policy $code ${script##*/}"
            [ "$code" != 124 ] || break # it hangs: once is enough
        done | sort -u | head -n 60
    fi
    for program in /usr/sbin/invoke-rc.d /sbin/start-stop-daemon /usr/bin/systemctl /usr/bin/deb-systemd-invoke; do
        true_name=$("$apt_bin/dpkg-divert" --truename "$program")
        [ "$true_name" = "$program" ] || echo "diverted $program"
        case $(readlink -f "$program") in */true | */false) echo "diverted $program" ;; esac
    done
    return 0
}

# Our settings and the host's own, to tell which of its are set back.
set_back() {
    sed -nE 's/^((APT|Acquire)::.*)$/ours \1/p' "$ours/apt.conf"
    hosts_own | sed -nE 's/^((APT|Acquire|DPkg::Options)::.*)$/host \1/Ip'
}

part apt "$apt_bin/apt-get" --version
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
part ground ground
part decides decides
part set_back set_back
part kernel_packages kernel_packages
part entries entries
part refresh refresh
part refreshed clock
part archives archives
part offers offers
[ "$scope" = security ] || part simulation apt_get -s dist-upgrade
part clock_end clock
