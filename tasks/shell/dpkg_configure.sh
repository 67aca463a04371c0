# The detached unit that repairs: finishes what an interrupted dpkg left unpacked or half-configured.
export DEBIAN_FRONTEND=noninteractive DEBIAN_PRIORITY=critical NEEDRESTART_SUSPEND=1 UCF_FORCE_CONFFOLD=1
exec dpkg --force-confdef --force-confold --configure -a </dev/null
