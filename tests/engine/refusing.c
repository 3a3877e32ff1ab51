/* Makes one folder refuse what mounted cloud storage refuses: appending, renaming, locking, cutting, writing backwards.
 * Loaded with LD_PRELOAD; REFUSING_FOLDER names the folder. Each refusal is told on stderr. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/types.h>
#include <unistd.h>

static int inside(const char *path) {
    const char *folder = getenv("REFUSING_FOLDER");
    char whole[PATH_MAX];
    if (!folder || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(whole, sizeof whole - strlen(path) - 2)) return 0;
        strcat(strcat(whole, "/"), path);
        path = whole;
    }
    return strncmp(path, folder, strlen(folder)) == 0;
}

static int file_inside(int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path);
}

static int refuse(const char *what) {
    fprintf(stderr, "refused: %s\n", what);
    errno = EOPNOTSUPP;
    return -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define OPEN(name)                                                          \
    int name(const char *path, int flags, ...) {                            \
        va_list more;                                                       \
        va_start(more, flags);                                              \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                       \
        if (flags & O_APPEND && inside(path)) return refuse("append");      \
        return REAL(name)(path, flags, mode);                               \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                        \
    int name(int at, const char *path, int flags, ...) {                    \
        va_list more;                                                       \
        va_start(more, flags);                                              \
        mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                       \
        if (flags & O_APPEND && inside(path)) return refuse("append");      \
        return REAL(name)(at, path, flags, mode);                           \
    }
OPENAT(openat)
OPENAT(openat64)

int rename(const char *old, const char *new) {
    return inside(old) || inside(new) ? refuse("rename") : REAL(rename)(old, new);
}

int renameat(int at, const char *old, int to, const char *new) {
    return inside(old) || inside(new) ? refuse("rename") : REAL(renameat)(at, old, to, new);
}

int link(const char *old, const char *new) {
    return inside(new) ? refuse("link") : REAL(link)(old, new);
}

int flock(int fd, int how) { return file_inside(fd) ? refuse("lock") : REAL(flock)(fd, how); }

int ftruncate(int fd, off_t size) { return file_inside(fd) ? refuse("cut") : REAL(ftruncate)(fd, size); }

int ftruncate64(int fd, off64_t size) { return file_inside(fd) ? refuse("cut") : REAL(ftruncate64)(fd, size); }

static int writes(int fd) { return (fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY; }

off_t lseek(int fd, off_t offset, int whence) {
    if (file_inside(fd) && writes(fd) && !(whence == SEEK_CUR && offset == 0)) return refuse("seek while writing");
    return REAL(lseek)(fd, offset, whence);
}

off64_t lseek64(int fd, off64_t offset, int whence) {
    if (file_inside(fd) && writes(fd) && !(whence == SEEK_CUR && offset == 0)) return refuse("seek while writing");
    return REAL(lseek64)(fd, offset, whence);
}

ssize_t pwrite(int fd, const void *from, size_t size, off_t at) {
    return file_inside(fd) ? refuse("write at a place") : REAL(pwrite)(fd, from, size, at);
}
