/*
 * Asks for locks on a file in every way that a Linux program has, and says what came of each and how
 * long it took.
 *
 *   locks FILE none     each has to be told at once that the server has no locks
 *   locks FILE local    each has to be granted
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

/* Many times what one call takes in an emulated machine; a client that is told nothing waits for ever. */
enum { AT_ONCE_MS = 10000 };

static int file;
static int wrong;

static int by_fcntl(int command, short type)
{
    struct flock lock = {.l_type = type, .l_whence = SEEK_SET, .l_start = 0, .l_len = 100};
    return fcntl(file, command, &lock);
}

static int set(void) { return by_fcntl(F_SETLK, F_WRLCK); }
static int set_and_wait(void) { return by_fcntl(F_SETLKW, F_WRLCK); }
static int read_lock(void) { return by_fcntl(F_SETLK, F_RDLCK); }
static int test(void) { return by_fcntl(F_GETLK, F_WRLCK); }
static int unlock(void) { return by_fcntl(F_SETLK, F_UNLCK); }
static int whole(void) { return flock(file, LOCK_EX); }
static int whole_now(void) { return flock(file, LOCK_EX | LOCK_NB); }
static int whole_unlock(void) { return flock(file, LOCK_UN); }

static void expect(const char *name, int (*ask)(void), int error)
{
    struct timespec begun, ended;
    clock_gettime(CLOCK_MONOTONIC, &begun);
    errno = 0;
    int result = ask();
    int found = result == 0 ? 0 : errno;
    clock_gettime(CLOCK_MONOTONIC, &ended);
    long took = (ended.tv_sec - begun.tv_sec) * 1000 + (ended.tv_nsec - begun.tv_nsec) / 1000000;
    int fits = found == error && took < AT_ONCE_MS;
    printf("%s: %s: %s after %ld ms\n", fits ? "ok" : "WRONG", name, strerror(found), took);
    fflush(stdout);
    wrong += !fits;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    int none = strcmp(argv[2], "none") == 0 ? ENOLCK : 0;
    file = open(argv[1], O_RDWR | O_CREAT, 0644);
    if (file < 0) {
        perror(argv[1]);
        return 2;
    }
    expect("fcntl F_SETLK, to write", set, none);
    expect("fcntl F_SETLK, to read", read_lock, none);
    expect("fcntl F_SETLKW", set_and_wait, none);
    expect("fcntl F_GETLK", test, none);
    expect("fcntl F_UNLCK", unlock, 0);
    expect("flock LOCK_EX", whole, none);
    expect("flock LOCK_EX|LOCK_NB", whole_now, none);
    expect("flock LOCK_UN", whole_unlock, 0);
    if (write(file, "data", 4) != 4 || close(file) != 0) {
        perror("write");
        wrong++;
    }
    return wrong != 0;
}
