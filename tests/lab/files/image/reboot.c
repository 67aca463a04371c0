/* reboot, poweroff, halt and shutdown for a lab host: the real system call, nothing around it.
 *
 * In a pid namespace the kernel answers by killing that namespace's init, which tells the
 * supervisor outside whether to start the host again. There is no init to ask politely, and
 * the host's disk is memory, so there is nothing to write back either.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/reboot.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    const char *name = slash ? slash + 1 : argv[0];
    int action = RB_AUTOBOOT;
    long minutes = 0;

    if (strcmp(name, "poweroff") == 0 || strcmp(name, "halt") == 0)
        action = RB_POWER_OFF;
    if (strcmp(name, "shutdown") == 0) {
        action = RB_POWER_OFF;
        for (int i = 1; i < argc; i++) {
            if (strcmp(argv[i], "-r") == 0 || strcmp(argv[i], "--reboot") == 0)
                action = RB_AUTOBOOT;
            if (argv[i][0] == '+')
                minutes = strtol(argv[i] + 1, NULL, 10);
        }
    }
    if (geteuid() != 0) {
        static const char refusal[] = "Operation not permitted: must be root\n";
        return write(2, refusal, sizeof refusal - 1) < 0 ? 2 : 1;
    }
    if (minutes > 0) {
        if (daemon(0, 0) != 0)
            return 1;
        sleep((unsigned int)minutes * 60);
    }
    return reboot(action) == 0 ? 0 : 1;
}
