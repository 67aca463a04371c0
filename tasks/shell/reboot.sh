# The detached unit that reboots. The pause lets the launch be answered first.
sync
sleep 1
if [ -d /run/systemd/system ]; then exec systemctl reboot; fi
if command -v shutdown >/dev/null; then exec shutdown -r now; fi
exec reboot
