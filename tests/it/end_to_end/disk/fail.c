/* A disk that fails, or is slow, for a process that runs as root and so is refused nothing: preloaded, it makes writes and syncs of
 * files below FAIL_BELOW fail with the error number that the file FAIL_WITH holds, as long as that file is there; or, with the
 * number 0, take so many milliseconds longer as stand behind it. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

static int failing(int fd) {
    int saved = errno, number = 0, slow = 0;
    char link[64], path[4096];
    const char *with = getenv("FAIL_WITH"), *below = getenv("FAIL_BELOW");
    FILE *file = with && below ? fopen(with, "re") : NULL;
    if (file) {
        if (fscanf(file, "%d %d", &number, &slow) < 1) number = 0;
        fclose(file);
    }
    if (number || slow) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        path[length < 0 ? 0 : length] = 0;
        if (strncmp(path, below, strlen(below))) number = slow = 0;
    }
    if (slow) usleep(slow * 1000);
    errno = number ? number : saved;
    return number;
}

#define FORWARD(result, name, parameters, arguments)                      \
    result name parameters {                                              \
        static result(*next) parameters;                                  \
        if (!next) *(void **)&next = dlsym(RTLD_NEXT, #name);             \
        return failing(fd) ? -1 : next arguments;                         \
    }

FORWARD(ssize_t, write, (int fd, const void *bytes, size_t count), (fd, bytes, count))
FORWARD(ssize_t, pwrite, (int fd, const void *bytes, size_t count, off_t at), (fd, bytes, count, at))
FORWARD(ssize_t, pwrite64, (int fd, const void *bytes, size_t count, off64_t at), (fd, bytes, count, at))
FORWARD(int, ftruncate, (int fd, off_t length), (fd, length))
FORWARD(int, ftruncate64, (int fd, off64_t length), (fd, length))
FORWARD(int, fsync, (int fd), (fd))
FORWARD(int, fdatasync, (int fd), (fd))
