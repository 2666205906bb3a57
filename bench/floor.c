/* The floor: what delivering costs when nothing else is done. One process accepts streams on
 * /sub and writes the body of each POST to /pub, as one chunked event, to each of them with one
 * write(). With a header "X-To: N", it goes to N of them only, others each time.
 *
 *   floor PORT
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MOST 60000

static int subscribers[MOST], count;
static char request[65536], events[65536], chunk[66000];

static void forget(int fd) {
    for (int i = 0; i < count; i++)
        if (subscribers[i] == fd) {
            subscribers[i] = subscribers[--count];
            break;
        }
    close(fd);
}

static void answer(int fd) {
    ssize_t size = read(fd, request, sizeof request - 1);
    if (size <= 0) {
        forget(fd);
        return;
    }
    request[size] = 0;
    if (request[0] == 'G') {
        static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                                   "Transfer-Encoding: chunked\r\n\r\n"
                                   "11\r\nevent: snapshot\n\n\r\n";
        if (write(fd, head, sizeof head - 1) > 0 && count < MOST) subscribers[count++] = fd;
        return;
    }
    const char *body = strstr(request, "\r\n\r\n");
    if (!body) return;
    int length = snprintf(events, sizeof events, "event: inventory_updated\ndata: %s\n\n", body + 4);
    int total = snprintf(chunk, sizeof chunk, "%x\r\n%s\r\n", length, events);
    const char *to = strstr(request, "X-To: ");
    int most = to ? atoi(to + 6) : count;
    static unsigned turn;
    for (int i = 0; i < most && i < count; i++) {
        /* Far apart, as the streams that show one product are. */
        int subscriber = most < count ? (turn++ * 7919u) % count : (unsigned)i;
        if (write(subscribers[subscriber], chunk, total) < 0) continue;
    }
    static const char accepted[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";
    if (write(fd, accepted, sizeof accepted - 1) < 0) forget(fd);
}

int main(int argc, char **argv) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    int one = 1, listener = socket(AF_INET, SOCK_STREAM, 0), poller = epoll_create1(0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(argv[argc - 1]))};
    address.sin_addr.s_addr = htonl(0x7f000001);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (void *)&address, sizeof address) || listen(listener, 4096)) {
        perror("floor");
        return 1;
    }
    struct epoll_event e = {.events = EPOLLIN, .data.fd = listener};
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &e);
    while (1) {
        struct epoll_event ready[64];
        int number = epoll_wait(poller, ready, 64, -1);
        for (int i = 0; i < number; i++) {
            if (ready[i].data.fd != listener) {
                answer(ready[i].data.fd);
                continue;
            }
            int fd = accept4(listener, 0, 0, SOCK_NONBLOCK);
            if (fd < 0) continue;
            setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
            struct epoll_event x = {.events = EPOLLIN, .data.fd = fd};
            epoll_ctl(poller, EPOLL_CTL_ADD, fd, &x);
        }
    }
}
