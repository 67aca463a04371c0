#!/bin/sh
# The first process of a lab host, in namespaces of its own: puts its root together, moves
# into it, and becomes its init. Nothing it mounts is seen outside, or outlives the host.
# usage: host_init.sh NAME FOLDER BASE REPOS INIT
set -eu
name=$1 folder=$2 base=$3 repos=$4 init=$5
root=$folder/root

hostname "$name"
mount -t overlay -o "lowerdir=$folder/identity:$base,upperdir=$folder/disk/upper,workdir=$folder/disk/work" \
    lab-disk "$root"
cd "$root"

# The kernel's files: its own view of processes; nothing global can be written.
mount -t proc -o nosuid,nodev,noexec proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount --bind "$folder/boot_id" proc/sys/kernel/random/boot_id
mount -t sysfs -o ro,nosuid,nodev,noexec sysfs sys
if [ "$init" = systemd ]; then mount -t cgroup2 -o nosuid,nodev,noexec lab-cgroup sys/fs/cgroup; fi

# A /dev of its own: nothing in it reaches this machine's devices.
mount -t tmpfs -o mode=755,nosuid,size=64k lab-dev dev
mknod -m 666 dev/null c 1 3
mknod -m 666 dev/zero c 1 5
mknod -m 666 dev/full c 1 7
mknod -m 666 dev/random c 1 8
mknod -m 666 dev/urandom c 1 9
mknod -m 666 dev/tty c 5 0
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts dev/pts
mount -t tmpfs -o mode=1777,nosuid,nodev,size=16m lab-shm dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s fd/0 dev/stdin
ln -s fd/1 dev/stdout
ln -s fd/2 dev/stderr
if [ -e proc/sysrq-trigger ]; then mount --bind dev/null proc/sysrq-trigger; fi

# What does not survive a reboot, and the package repositories.
mount -t tmpfs -o mode=755,nosuid,nodev,size=32m lab-run run
mkdir run/sshd
mkdir -m 1777 run/lock
mount --bind "$repos" srv/lab-repos
mount -o remount,bind,ro srv/lab-repos

pivot_root . mnt
cd /
umount -l /mnt

# Root on the host can do what root does, but not to the machine underneath.
case $init in
systemd) set -- container=lab /lib/systemd/systemd --log-target=console ;;
*) set -- /usr/bin/tini -- /usr/local/sbin/lab-rc ;;
esac
exec setpriv --bounding-set -mknod,-sys_module,-sys_rawio,-sys_time --inh-caps -all \
    env -i "LAMPLIGHTER_LAB=$LAMPLIGHTER_LAB" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    LANG=C.UTF-8 "$@"
