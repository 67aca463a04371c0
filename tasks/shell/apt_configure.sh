# The detached unit that repairs: finishes what an interrupted dpkg left unpacked or half-configured.
# shellcheck disable=SC2086 # options, separated by blanks
dpkg $dpkg_keeps --configure -a </dev/null
