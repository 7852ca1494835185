/* Lets every flush to the disk take FLUSH_US microseconds longer (LD_PRELOAD): the same benchmark on a slower disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

static int flushed(const char *name, int descriptor) {
    int (*flush)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    const char *longer = getenv("FLUSH_US");
    usleep(longer ? (useconds_t)atoi(longer) : 0);
    return flush(descriptor);
}

int fsync(int descriptor) { return flushed("fsync", descriptor); }
int fdatasync(int descriptor) { return flushed("fdatasync", descriptor); }
