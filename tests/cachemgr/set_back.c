/* Preloaded into a process: its wall clock is an hour slow as long as the file SET_BACK_WHILE exists. The clocks that
   nobody sets go on, as where an owner or NTP sets a machine's clock. Python asks for the time by this call alone. */

#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static const char *flag;

__attribute__((constructor)) static void remember_flag(void)
{
    const char *path = getenv("SET_BACK_WHILE");
    flag = path ? strdup(path) : NULL;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME && flag && access(flag, F_OK) == 0)
        now->tv_sec -= 3600;
    return failed;
}
