# The detached process of one attempt. $1 its directory.
# Its first act is to take `go`: when that fails it was fenced off, and nothing is run.
a=$1
umask 077
IFS= read -r boot </proc/sys/kernel/random/boot_id || exit 1
IFS= read -r stat <"/proc/$$/stat" || exit 1
set -- ${stat##*) }
ln -s "$$,${20},$boot" "$a/go" 2>/dev/null || exit 0
# The beginning outlasts a power cut, or the unit could be begun again after one.
{ sync "$a" "${a%/*}" "${a%/*/*}" || sync; } 2>/dev/null
sh "$a/script" </dev/null >"$a/out" 2>"$a/err"
code=$?
# No room for the record of the end: then the output is not whole either. Its reserved place is written over.
if echo "$code whole" >"$a/rc.part"; then
	sync "$a/rc.part"
else
	echo "$code cut " 1<>"$a/rc.spare"
	sync "$a/rc.spare"
	mv "$a/rc.spare" "$a/rc.part"
fi 2>/dev/null
mv "$a/rc.part" "$a/rc"
rm -f "$a/rc.spare"
{ sync "$a" || sync; } 2>/dev/null
