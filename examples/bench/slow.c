/* A slow disk: preloaded, it makes every sync of a file take SLOW_MS milliseconds more. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static void wait_for_disk(void) {
    const char *slow = getenv("SLOW_MS");
    if (slow) usleep(atoi(slow) * 1000);
}

#define SLOWED(name)                                                   \
    int name(int fd) {                                                 \
        static int (*next)(int);                                       \
        if (!next) *(void **)&next = dlsym(RTLD_NEXT, #name);          \
        wait_for_disk();                                               \
        return next(fd);                                               \
    }

SLOWED(fsync)
SLOWED(fdatasync)
