#!/bin/sh
# Runs inside the freshly bootstrapped root, once: makes it the disk image of a lab host.
# usage: customise.sh CODENAME OPSPW_PASSWORD
set -eu
codename=$1
password=$2
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin

# People: ops may sudo, opspw may with a password, nosudo may not.
for user in ops opspw nosudo; do useradd --create-home --shell /bin/bash "$user"; done
printf 'opspw:%s\n' "$password" | chpasswd
printf 'ops ALL=(ALL) NOPASSWD: ALL\n' >/etc/sudoers.d/lab-ops
printf 'opspw ALL=(ALL) ALL\n' >/etc/sudoers.d/lab-opspw
chmod 440 /etc/sudoers.d/lab-*

# Logging in: one host key, the estate's client keys for everybody, nothing slow, nothing chatty.
cat >/etc/ssh/sshd_config.d/lab.conf <<'END'
HostKey /etc/ssh/ssh_host_ed25519_key
AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/lab_authorized_keys
PermitRootLogin prohibit-password
MaxStartups 100:30:200
MaxSessions 100
UseDNS no
PrintMotd no
PrintLastLog no
END
rm -f /etc/ssh/ssh_host_* /etc/update-motd.d/* /etc/motd
printf '# nothing: every command over ssh reads this file\n' >/root/.bashrc
: >/etc/resolv.conf

# Packages: the two lab archives, which each host finds under /srv/lab-repo, and no others.
mkdir -p /srv/lab-repos
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
cat >/etc/apt/sources.list.d/lab.sources <<END
Types: deb
URIs: copy:/srv/lab-repo/main
Suites: $codename
Components: main
Signed-By: /usr/share/keyrings/lab-archive-keyring.gpg

Types: deb
URIs: copy:/srv/lab-repo/security
Suites: $codename-security
Components: main
Signed-By: /usr/share/keyrings/lab-archive-keyring.gpg
END
ln -s /srv/lab-repos/keyring.gpg /usr/share/keyrings/lab-archive-keyring.gpg
dpkg --install /lab-debs/*.deb
apt-mark hold lab-held

# needrestart: report, never restart by itself, and leave this machine's own firmware out of it.
cat >/etc/needrestart/conf.d/lab.conf <<'END'
$nrconf{restart} = 'l';
$nrconf{ucodehints} = 0;
END

# Where systemd is the first process: the least that a server runs, and logind at its strictest.
mkdir -p /etc/systemd/logind.conf.d
printf '[Login]\nKillUserProcesses=yes\n' >/etc/systemd/logind.conf.d/lab.conf
systemctl mask --quiet systemd-networkd.service systemd-resolved.service systemd-timesyncd.service \
    systemd-udevd.service apt-daily.timer apt-daily-upgrade.timer getty.target
systemctl set-default --quiet multi-user.target

rm -rf /lab-debs /var/cache/apt/* /var/lib/apt/lists/* /var/log/*.log /var/log/apt/*
mkdir -p /var/cache/apt/archives/partial /var/lib/apt/lists/partial
