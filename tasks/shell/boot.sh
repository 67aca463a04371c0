# Read which boot this is and whether the host asks for another. usage: MARK
mark=$1
part boot_id boot_id
part kernels kernels
part reboot reboot_required
