/*
 * What a guest does in the case `survive`: it writes files onto its root, brings them to the disk,
 * reads them back from the server, and says on its console what went wrong.
 *
 *   survivor NAME DIRECTORY
 *
 * It runs from memory, so that it can tell even when its root is gone. A line `wrote ROUND` is a
 * promise of the server's: what it stands for must be there for ever. The case compares the files on
 * the server's disk with these lines; fill() has a twin there.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { SIZE = 32768, SLOTS = 8 };

static FILE *console;
static long wrong;
static char expected[SIZE];
static char found[SIZE] __attribute__((aligned(4096)));
/* The round in which each file was written last; 0 if never. */
static long last[SLOTS];

static void say(const char *what, long number)
{
    fprintf(console, "survivor: %s %ld\n", what, number);
}

/* An error that no client may see, or one that a repeated call has after a kill and that is looked into. */
static int failed(const char *what, const char *path)
{
    fprintf(console, "survivor: ERROR %s %s: %s\n", what, path, strerror(errno));
    wrong++;
    return 0;
}

static void fill(char *block, const char *name, long slot, long round)
{
    int length = snprintf(block, SIZE, "%s slot %ld round %ld\n", name, slot, round);
    for (int place = length; place < SIZE; place++)
        block[place] = (char)(place * 7 + slot * 31 + round);
}

static int full_write(int file, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t count = write(file, bytes, size);
        if (count < 0)
            return -1;
        bytes += count;
        size -= (size_t)count;
    }
    return 0;
}

/* Reads a file past the client's cache and compares it. */
static int is_there(const char *path, const char *name, long slot, long round)
{
    int file = open(path, O_RDONLY | O_DIRECT);
    if (file < 0)
        return failed("open", path);
    size_t have = 0;
    while (have < SIZE) {
        ssize_t count = read(file, found + have, SIZE - have);
        if (count < 0) {
            failed("read", path);
            close(file);
            return 0;
        }
        if (count == 0)
            break;
        have += (size_t)count;
    }
    close(file);
    fill(expected, name, slot, round);
    if (have != SIZE || memcmp(found, expected, SIZE) != 0) {
        fprintf(console, "survivor: LOST %s: %zu bytes, not those of round %ld: %.40s\n", path, have, round,
                found);
        wrong++;
        return 0;
    }
    return 1;
}

/* Writes a file under another name, brings it to the disk and gives it its name. */
static int put(const char *path, const char *name, long slot, long round)
{
    int file = open("new", O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (file < 0)
        return failed("create", path);
    fill(expected, name, slot, round);
    if (full_write(file, expected, SIZE) != 0) {
        failed("write", path);
        close(file);
        return 0;
    }
    if (fsync(file) != 0) {
        failed("fsync", path);
        close(file);
        return 0;
    }
    if (close(file) != 0)
        return failed("close", path);
    /* A server that was killed between the rename and its answer does not know the second call for a
       repetition (RFC 1813 section 4.5): whether the file is there is what counts. */
    if (rename("new", path) != 0 && errno != ENOENT)
        return failed("rename", path);
    return is_there(path, name, slot, round);
}

/* What else a living system does to its root. */
static void live(long round)
{
    struct stat status;
    if (stat("/bin/busybox", &status) != 0)
        failed("stat", "/bin/busybox");
    if (access("/bin/busybox", R_OK | X_OK) != 0)
        failed("access", "/bin/busybox");
    DIR *directory = opendir(".");
    if (directory == NULL) {
        failed("opendir", ".");
    } else {
        errno = 0;
        while (readdir(directory) != NULL)
            errno = 0;
        if (errno != 0)
            failed("readdir", ".");
        closedir(directory);
    }
    char path[32];
    snprintf(path, sizeof path, "folder-%ld", round);
    if (mkdir(path, 0755) != 0 && errno != EEXIST)
        failed("mkdir", path);
    if (chmod(path, 0700) != 0)
        failed("chmod", path);
    if (rmdir(path) != 0 && errno != ENOENT)
        failed("rmdir", path);
}

int main(int argc, char **argv)
{
    console = fopen("/dev/console", "w");
    if (argc != 3 || console == NULL)
        return 2;
    setvbuf(console, NULL, _IOLBF, 0);
    const char *name = argv[1];
    if (chdir(argv[2]) != 0) {
        failed("chdir", argv[2]);
        return 1;
    }
    /* Held open from now on to the end. */
    int log = open("journal", O_RDWR | O_CREAT | O_APPEND, 0644);
    if (log < 0)
        failed("create", "journal");
    say("begins", 0);
    long round = 0;
    char path[32];
    while (access("stop", F_OK) != 0) {
        if (errno != ENOENT)
            failed("access", "stop");
        round++;
        long slot = round % SLOTS;
        snprintf(path, sizeof path, "slot-%ld", slot);
        char line[32];
        int length = snprintf(line, sizeof line, "%10ld\n", round);
        if (full_write(log, line, (size_t)length) != 0)
            failed("append", "journal");
        else if (fsync(log) != 0)
            failed("fsync", "journal");
        else if (put(path, name, slot, round)) {
            last[slot] = round;
            say("wrote", round);
        }
        long other = (round * 5 + 3) % SLOTS;
        snprintf(path, sizeof path, "slot-%ld", other);
        if (last[other] != 0)
            is_there(path, name, other, last[other]);
        live(round);
        struct timespec pause = {.tv_sec = 0, .tv_nsec = 700000000};
        nanosleep(&pause, NULL);
    }
    for (long slot = 0; slot < SLOTS; slot++) {
        snprintf(path, sizeof path, "slot-%ld", slot);
        if (last[slot] != 0)
            is_there(path, name, slot, last[slot]);
    }
    if (log >= 0) {
        if (lseek(log, 0, SEEK_END) != round * 11)
            fprintf(console, "survivor: LOST lines of the journal\n"), wrong++;
        if (close(log) != 0)
            failed("close", "journal");
    }
    say("rounds", round);
    say("ends with errors", wrong);
    return wrong != 0;
}
