/* The polling client: asks for one path again and again, on a few connections.
 *
 *   poll PORT PATH CONNECTIONS SECONDS [ETAG]
 *
 * Each connection asks as soon as it has its answer, with If-None-Match if there is an ETAG. Prints
 * a JSON line: answers, those with status 304, those with another one than 200 and 304, seconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 1024

static char request[4096], answers[MOST][65536];
static int size, received[MOST];
static long done, unchanged, wrong;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void ask(int fd) {
    if (write(fd, request, size) != size) fail("write");
}

/* Bytes of the whole answer, 0 if its head has not come whole. */
static int length_of(const char *answer) {
    const char *end = strstr(answer, "\r\n\r\n");
    if (!end) return 0;
    const char *length = strcasestr(answer, "\r\ncontent-length:");
    return end + 4 - answer + (length && length < end ? atoi(length + 17) : 0);
}

static void take(int number, int fd) {
    char *answer = answers[number];
    int *got = &received[number], length;
    int more = read(fd, answer + *got, sizeof answers[0] - 1 - *got);
    if (more <= 0) fail("read");
    answer[*got += more] = 0;
    if (!(length = length_of(answer)) || *got < length) return;
    int status = atoi(answer + 9);
    done++;
    unchanged += status == 304;
    wrong += status != 304 && status != 200;
    *got = 0;
    ask(fd);
}

int main(int argc, char **argv) {
    if (argc < 5 || atoi(argv[3]) > MOST) {
        fprintf(stderr, "usage: poll PORT PATH CONNECTIONS SECONDS [ETAG]\n");
        return 2;
    }
    int connections = atoi(argv[3]), fds[MOST], one = 1, poller = epoll_create1(0);
    size = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n%s%s%s\r\n",
                    argv[2], argc > 5 ? "If-None-Match: " : "", argc > 5 ? argv[5] : "",
                    argc > 5 ? "\r\n" : "");
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[1]))};
    to.sin_addr.s_addr = htonl(0x7f000001);
    for (int i = 0; i < connections; i++) {
        fds[i] = socket(AF_INET, SOCK_STREAM, 0);
        if (connect(fds[i], (void *)&to, sizeof to)) fail("connect");
        setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event e = {.events = EPOLLIN, .data.u32 = i};
        epoll_ctl(poller, EPOLL_CTL_ADD, fds[i], &e);
        ask(fds[i]);
    }
    double began = now(), until = began + atof(argv[4]);
    while (now() < until) {
        struct epoll_event ready[64];
        int number = epoll_wait(poller, ready, 64, 100);
        for (int i = 0; i < number; i++) take(ready[i].data.u32, fds[ready[i].data.u32]);
    }
    printf("{\"answers\":%ld,\"unchanged\":%ld,\"wrong\":%ld,\"seconds\":%.3f}\n", done, unchanged,
           wrong, now() - began);
}
