/*
 * A disk that keeps only what was synced.
 *
 * kill -9 leaves the page cache alive, so it can't show a missing fsync. Preloaded into the server,
 * this keeps a second copy of every file under DISK_REAL in DISK_SHADOW, and a write reaches
 * that copy only when an fsync or fdatasync behind it has succeeded. After the kill the shadow
 * is what a power cut would have left.
 *
 * DISK_REAL    the folder that is watched (absolute)
 * DISK_SHADOW  the folder of the copies
 * DISK_EIO_AT  the number of the sync (from 1) that fails with EIO, once
 * DISK_NO_SYNC set: syncs say yes and do nothing, as with a store that leaves them out
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define FDS 4096
#define FILES 64

struct change {
    struct change *next;
    int truncate;
    off_t offset;
    size_t length;
    char data[];
};

struct file {
    char path[512];
    struct change *first, **last;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct file files[FILES];
static int file_count;
static struct file *open_files[FDS];
static long syncs;
static const char *real_dir, *shadow_dir;
static long eio_at;
static int no_sync;

static int (*next_open)(const char *, int, ...);
static ssize_t (*next_pwrite)(int, const void *, size_t, off_t);
static ssize_t (*next_write)(int, const void *, size_t);
static int (*next_ftruncate)(int, off_t);
static int (*next_fsync)(int);
static int (*next_close)(int);
static int (*next_unlink)(const char *);

__attribute__((constructor)) static void start(void) {
    next_open = dlsym(RTLD_NEXT, "open");
    next_pwrite = dlsym(RTLD_NEXT, "pwrite");
    next_write = dlsym(RTLD_NEXT, "write");
    next_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    next_fsync = dlsym(RTLD_NEXT, "fsync");
    next_close = dlsym(RTLD_NEXT, "close");
    next_unlink = dlsym(RTLD_NEXT, "unlink");
    real_dir = getenv("DISK_REAL");
    shadow_dir = getenv("DISK_SHADOW");
    eio_at = getenv("DISK_EIO_AT") ? atol(getenv("DISK_EIO_AT")) : 0;
    no_sync = getenv("DISK_NO_SYNC") != NULL;
}

/* The watched part of a path, or NULL. The shared memory of the log is rebuilt, never synced. */
static const char *watched(const char *path) {
    size_t length = real_dir ? strlen(real_dir) : 0;
    if (!length || strncmp(path, real_dir, length) != 0 || path[length] != '/') return NULL;
    const char *name = path + length + 1;
    size_t tail = strlen(name);
    if (tail >= 4 && strcmp(name + tail - 4, "-shm") == 0) return NULL;
    return strchr(name, '/') ? NULL : name;
}

static void shadow_path(char *out, size_t size, const char *name) {
    snprintf(out, size, "%s/%s", shadow_dir, name);
}

static struct file *file_of(const char *path) {
    const char *name = watched(path);
    if (!name) return NULL;
    for (int at = 0; at < file_count; at++)
        if (strcmp(files[at].path, name) == 0) return &files[at];
    if (file_count == FILES) abort();
    struct file *file = &files[file_count++];
    snprintf(file->path, sizeof file->path, "%s", name);
    file->first = NULL;
    file->last = &file->first;
    return file;
}

static void note(int fd, int truncate, off_t offset, const void *data, size_t length) {
    if (fd < 0 || fd >= FDS) return;
    pthread_mutex_lock(&lock);
    struct file *file = open_files[fd];
    if (file) {
        struct change *change = malloc(sizeof *change + (truncate ? 0 : length));
        if (!change) abort();
        change->next = NULL;
        change->truncate = truncate;
        change->offset = offset;
        change->length = length;
        if (!truncate) memcpy(change->data, data, length);
        *file->last = change;
        file->last = &change->next;
    }
    pthread_mutex_unlock(&lock);
}

/* What was written so far is on the disk now. */
static void settle(struct file *file) {
    char path[1024];
    shadow_path(path, sizeof path, file->path);
    int fd = next_open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) abort();
    for (struct change *change = file->first; change;) {
        if (change->truncate) {
            if (next_ftruncate(fd, change->offset) != 0) abort();
        } else {
            size_t done = 0;
            while (done < change->length) {
                ssize_t wrote = next_pwrite(fd, change->data + done, change->length - done,
                                            change->offset + (off_t)done);
                if (wrote <= 0) abort();
                done += (size_t)wrote;
            }
        }
        struct change *next = change->next;
        free(change);
        change = next;
    }
    file->first = NULL;
    file->last = &file->first;
    next_close(fd);
}

static int opened(const char *path, int flags, int fd) {
    if (fd >= 0 && fd < FDS) {
        pthread_mutex_lock(&lock);
        open_files[fd] = file_of(path);
        pthread_mutex_unlock(&lock);
        if (open_files[fd] && (flags & O_TRUNC)) note(fd, 1, 0, NULL, 0);
    }
    return fd;
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags, next_open(path, flags, mode));
}

int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    return opened(path, flags | O_LARGEFILE, next_open(path, flags | O_LARGEFILE, mode));
}

int close(int fd) {
    if (fd >= 0 && fd < FDS) {
        pthread_mutex_lock(&lock);
        open_files[fd] = NULL;
        pthread_mutex_unlock(&lock);
    }
    return next_close(fd);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    ssize_t wrote = next_pwrite(fd, data, length, offset);
    if (wrote > 0) note(fd, 0, offset, data, (size_t)wrote);
    return wrote;
}

ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) {
    return pwrite(fd, data, length, offset);
}

ssize_t write(int fd, const void *data, size_t length) {
    off_t offset = fd >= 0 && fd < FDS && open_files[fd] ? lseek(fd, 0, SEEK_CUR) : 0;
    ssize_t wrote = next_write(fd, data, length);
    if (wrote > 0) note(fd, 0, offset, data, (size_t)wrote);
    return wrote;
}

int ftruncate(int fd, off_t length) {
    int result = next_ftruncate(fd, length);
    if (result == 0) note(fd, 1, length, NULL, 0);
    return result;
}

int ftruncate64(int fd, off_t length) { return ftruncate(fd, length); }

static int sync_file(int fd) {
    struct file *file = fd >= 0 && fd < FDS ? open_files[fd] : NULL;
    if (!file) return next_fsync(fd);
    pthread_mutex_lock(&lock);
    long number = ++syncs;
    pthread_mutex_unlock(&lock);
    if (number == eio_at) {
        errno = EIO;
        return -1;
    }
    if (no_sync) return 0;
    /* Under the lock, so that what this sync covers is what stood there when it began. */
    pthread_mutex_lock(&lock);
    int result = next_fsync(fd);
    if (result == 0) settle(file);
    pthread_mutex_unlock(&lock);
    return result;
}

int fsync(int fd) { return sync_file(fd); }
int fdatasync(int fd) { return sync_file(fd); }

int unlink(const char *path) {
    int result = next_unlink(path);
    const char *name = result == 0 ? watched(path) : NULL;
    if (name) {
        char shadow[1024];
        pthread_mutex_lock(&lock);
        struct file *file = file_of(path);
        for (struct change *change = file->first; change;) {
            struct change *next = change->next;
            free(change);
            change = next;
        }
        file->first = NULL;
        file->last = &file->first;
        shadow_path(shadow, sizeof shadow, name);
        next_unlink(shadow);
        pthread_mutex_unlock(&lock);
    }
    return result;
}
