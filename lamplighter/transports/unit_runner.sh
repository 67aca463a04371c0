# The detached process of one attempt. $1 its directory, $2 the umask of what it runs.
# Its first act is to take `go`: when that fails it was fenced off, and nothing is run.
a=$1
mask=$2
umask 077
IFS= read -r boot </proc/sys/kernel/random/boot_id
IFS= read -r stat <"/proc/$$/stat"
set -- ${stat##*) }
ln -s "$$,${20},$boot" "$a/go" 2>/dev/null || exit 0
# The beginning outlasts a power cut, or the unit could be begun again after one.
{ sync "$a" "${a%/*}" "${a%/*/*}" || sync; } 2>/dev/null
(umask "$mask" && exec sh "$a/script") </dev/null >"$a/out" 2>"$a/err"
echo "$?" >"$a/rc.part"
sync "$a/rc.part" 2>/dev/null
mv "$a/rc.part" "$a/rc"
{ sync "$a" || sync; } 2>/dev/null
