/* Holds the namespaces of a Pod: sleeps until it is told to stop and, as process 1 of the Pod's process
 * namespace, buries the children that others left behind. */
#define _POSIX_C_SOURCE 200809L
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

int main(int argc, char** argv) {
    sigset_t signals;
    int signal_number;

    if (argc > 1 && strcmp(argv[1], "-v") == 0) {
        puts("pause " VERSION);
        return 0;
    }
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGCHLD);
    /* Blocked and awaited, so that no signal can come between a check and the sleep. */
    if (sigprocmask(SIG_BLOCK, &signals, NULL) != 0) return 1;
    for (;;) {
        if (sigwait(&signals, &signal_number) != 0) return 2;
        if (signal_number != SIGCHLD) return 0;
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
    }
}
