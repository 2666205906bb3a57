/* The load client: many event streams in one process, light enough not to be the bottleneck.
 *
 *   load PORT PATH STREAMS PRODUCTS [gzip]
 *
 * Opens STREAMS streams of PATH, at most 512 of them unanswered at a time, and prints a JSON line;
 * a * in PATH stands for the stream's number, modulo PRODUCTS, and @FILE for the paths in a file, a
 * line each, one for each stream. Then it answers commands, a line each on standard input, with a
 * JSON line each, while it goes on reading. With gzip, it asks for that and unpacks nothing: it
 * counts bytes, and knows no updates.
 *
 *   report   what came since the last report: updates, bytes without those of pings, pings, lag of
 *            each update in ms (from its "timestamp" to its arrival), and age of what each stream
 *            last got, sampled every 100 ms
 *   wait N S the same, as soon as there are N updates, or after S seconds
 *   state    for each stream, the sum over all products ("p0" to "p<PRODUCTS-1>") of the newest
 *            version that it got: smallest, largest
 *   churn N  closes N streams, half of them by reset, and opens N new ones
 *   end      closes everything
 *
 * Times are of CLOCK_REALTIME, so the database must run on the same machine.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BUCKETS 60001 /* of one ms; the last one takes the rest */
#define UNANSWERED 512

struct stream {
    int fd, has_head;
    char *rest; /* an event that has not come whole yet */
    size_t rest_size;
    long last_ms;
    int *versions;
};

static struct stream *streams;
static int count, products, port, poller, unanswered;
static const char *path;
static char **paths; /* one for each stream, or none */
static int is_packed;
static char buffer[1 << 20];
static long lag[BUCKETS], age[BUCKETS], updates, bytes, pings, opened;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static long day_ms(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (t.tv_sec % 86400) * 1000 + t.tv_nsec / 1000000;
}

static void note(long *histogram, long ms) {
    if (ms < -43200000) ms += 86400000; /* past midnight */
    histogram[ms < 0 ? 0 : ms >= BUCKETS ? BUCKETS - 1 : ms]++;
}

static long percentile(const long *histogram, double part) {
    long total = 0, seen = 0;
    for (int i = 0; i < BUCKETS; i++) total += histogram[i];
    for (int i = 0; i < BUCKETS; i++)
        if ((seen += histogram[i]) > 0 && seen >= part * total) return i;
    return 0;
}

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void connect_stream(int index) {
    struct stream *s = &streams[index];
    struct sockaddr_in from = {.sin_family = AF_INET}, to = {.sin_family = AF_INET};
    int one = 1;
    s->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (s->fd < 0) fail("socket");
    /* Addresses of this process, one for each 20,000 streams: ports run out. */
    from.sin_addr.s_addr = htonl(0x7f000000 | (getpid() & 0x7fff) << 8 | (1 + opened++ / 20000 % 200));
    setsockopt(s->fd, IPPROTO_IP, 24 /* IP_BIND_ADDRESS_NO_PORT */, &one, sizeof one);
    if (bind(s->fd, (void *)&from, sizeof from)) fail("bind");
    to.sin_addr.s_addr = htonl(0x7f000001);
    to.sin_port = htons(port);
    if (connect(s->fd, (void *)&to, sizeof to)) fail("connect");
    const char *own = paths ? paths[index] : path;
    const char *star = strchr(own, '*');
    char number[16] = "";
    if (star) snprintf(number, sizeof number, "%d", products ? index % products : index);
    int size = snprintf(buffer, sizeof buffer,
                        "GET %.*s%s%s HTTP/1.1\r\nHost: localhost\r\n"
                        "Accept: text/event-stream\r\n%s\r\n",
                        star ? (int)(star - own) : (int)strlen(own), own, number,
                        star ? star + 1 : "", is_packed ? "Accept-Encoding: gzip\r\n" : "");
    if (write(s->fd, buffer, size) != size) fail("write");
    fcntl(s->fd, F_SETFL, O_NONBLOCK);
    s->has_head = 0;
    s->rest_size = 0;
    unanswered++;
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = index};
    epoll_ctl(poller, EPOLL_CTL_ADD, s->fd, &e);
}

static void close_stream(int index, int by_reset) {
    struct stream *s = &streams[index];
    struct linger hard = {1, 0};
    if (s->fd < 0) return;
    if (by_reset) setsockopt(s->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    close(s->fd);
    s->fd = -1;
    unanswered -= !s->has_head;
}

/* Takes pings off the bytes: whole chunks, each of which is `SIZE in hex CR LF`, so many bytes, and
 * CR LF. However long the pause between pings, a stream's turn may come while changes are counted. */
static void take_off_pings(char *at, char *end) {
    static const char ping[] = "\nevent: ping\n";
    char *p = at;
    while ((p = memmem(p, end - p, ping, sizeof ping - 1))) {
        char *line = p++;
        while (line > at && line[-1] != '\n') line--;
        pings++;
        bytes -= p - line + strtol(line, NULL, 16) + 2;
    }
}

/* Whole events: each product in them, with its version. */
static void read_events(struct stream *s, char *at, char *end, long arrived) {
    static const char product[] = "\"productId\":\"p", version[] = "\"version\":",
                      update[] = "event: inventory_updated", stamp[] = "\"timestamp\":\"";
    take_off_pings(at, end);
    char *p = at;
    while ((p = memmem(p, end - p, update, sizeof update - 1))) {
        updates++;
        p += sizeof update;
        char *t = memmem(p, end - p, stamp, sizeof stamp - 1);
        if (!t) break;
        t += sizeof stamp - 1 + 11; /* 2026-01-01T */
        s->last_ms = (atol(t) * 3600 + atol(t + 3) * 60 + atol(t + 6)) * 1000 + atol(t + 9);
        note(lag, arrived - s->last_ms);
    }
    if (!products) return;
    p = at;
    while ((p = memmem(p, end - p, product, sizeof product - 1))) {
        p += sizeof product - 1;
        long index = atol(p);
        char *v = memmem(p, end - p, version, sizeof version - 1);
        if (!v) return;
        int number = atoi(v + sizeof version - 1);
        if (index < products && number > s->versions[index]) s->versions[index] = number;
    }
}

static void read_stream(int index) {
    struct stream *s = &streams[index];
    ssize_t size;
    memcpy(buffer, s->rest, s->rest_size);
    while ((size = read(s->fd, buffer + s->rest_size, sizeof buffer - 1 - s->rest_size)) > 0) {
        char *end = buffer + s->rest_size + size, *cut = NULL;
        bytes += size;
        if (is_packed) {
            unanswered -= !s->has_head;
            s->has_head = 1;
            continue;
        }
        for (char *p = end - 1; p > buffer; p--)
            if (p[0] == '\n' && p[-1] == '\n') {
                cut = p + 1;
                break;
            }
        if (cut) {
            unanswered -= !s->has_head;
            s->has_head = 1;
            read_events(s, buffer, cut, day_ms());
        } else
            cut = buffer;
        s->rest_size = end - cut;
        memmove(buffer, cut, s->rest_size);
        if ((size_t)size < sizeof buffer / 2) break;
    }
    if (s->rest_size) {
        s->rest = realloc(s->rest, s->rest_size);
        memcpy(s->rest, buffer, s->rest_size);
    }
    if (size == 0 || (size < 0 && errno != EAGAIN)) close_stream(index, 0);
}

static int read_for(int ms) {
    struct epoll_event events[512];
    int ready = epoll_wait(poller, events, 512, ms), commands = 0;
    for (int i = 0; i < ready; i++)
        if (events[i].data.u32 == UINT32_MAX)
            commands = 1;
        else
            read_stream(events[i].data.u32);
    return commands;
}

static int alive(void) {
    int open = 0;
    for (int i = 0; i < count; i++) open += streams[i].fd >= 0;
    return open;
}

static void connect_all(int from, int to) {
    double until = now() + 60;
    for (int i = from; i < to; i++) {
        connect_stream(i);
        if (i % 64 == 63) read_for(0);
        while (unanswered >= UNANSWERED && now() < until) read_for(100);
    }
    while (unanswered && now() < until) read_for(100);
}

static void sample_age(void) {
    static long sampled;
    long at = day_ms();
    if (at - sampled < 100 && at >= sampled) return;
    sampled = at;
    for (int i = 0; i < count; i++)
        if (streams[i].last_ms) note(age, at - streams[i].last_ms);
}

static void report(void) {
    printf("{\"updates\":%ld,\"bytes\":%ld,\"pings\":%ld,\"open\":%d,\"lag_p50\":%ld,"
           "\"lag_p99\":%ld,\"lag_max\":%ld,\"age_p50\":%ld,\"age_p99\":%ld}\n",
           updates, bytes, pings, alive(), percentile(lag, 0.5), percentile(lag, 0.99),
           percentile(lag, 1), percentile(age, 0.5), percentile(age, 0.99));
    updates = bytes = pings = 0;
    memset(lag, 0, sizeof lag);
    memset(age, 0, sizeof age);
}

static void wait_for(char *arguments) {
    long wanted = strtol(arguments, &arguments, 10);
    double until = now() + strtod(arguments, NULL);
    while (updates < wanted && now() < until) {
        read_for(10);
        sample_age();
    }
    report();
}

static void state(void) {
    long lowest = -1, highest = 0;
    for (int i = 0; i < count; i++) {
        long sum = 0;
        for (int k = 0; k < products; k++) sum += streams[i].versions[k];
        if (lowest < 0 || sum < lowest) lowest = sum;
        if (sum > highest) highest = sum;
    }
    printf("{\"lowest\":%ld,\"highest\":%ld}\n", lowest, highest);
}

static void churn(int number) {
    for (int i = 0; i < number; i++) close_stream(i % count, i & 1);
    double began = now();
    connect_all(0, number < count ? number : count);
    printf("{\"seconds\":%.4f,\"open\":%d}\n", now() - began, alive());
}

/* Reads the paths of a file, one for each stream. */
static void read_paths(const char *name) {
    FILE *file = fopen(name, "r");
    if (!file) fail(name);
    paths = calloc(count, sizeof *paths);
    size_t size = 0;
    for (int i = 0; i < count; i++) {
        ssize_t length = getline(&paths[i], &size, file);
        if (length <= 0) fail("too few paths");
        paths[i][length - 1] = 0;
        size = 0;
    }
    fclose(file);
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: load PORT PATH STREAMS PRODUCTS [gzip]\n");
        return 2;
    }
    port = atoi(argv[1]);
    path = argv[2];
    count = atoi(argv[3]);
    products = atoi(argv[4]);
    is_packed = argc > 5 && !strcmp(argv[5], "gzip");
    if (*path == '@') read_paths(path + 1);
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    poller = epoll_create1(0);
    streams = calloc(count, sizeof *streams);
    for (int i = 0; i < count; i++) streams[i].versions = calloc(products + 1, sizeof(int));
    double began = now();
    connect_all(0, count);
    printf("{\"streams\":%d,\"seconds\":%.4f}\n", alive(), now() - began);
    fflush(stdout);
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = UINT32_MAX};
    epoll_ctl(poller, EPOLL_CTL_ADD, 0, &e);
    while (1) {
        if (read_for(50)) {
            char line[256];
            ssize_t size = read(0, line, sizeof line - 1);
            if (size <= 0) return 0;
            line[size] = 0;
            if (!strncmp(line, "report", 6)) report();
            else if (!strncmp(line, "wait", 4)) wait_for(line + 4);
            else if (!strncmp(line, "state", 5)) state();
            else if (!strncmp(line, "churn", 5)) churn(atoi(line + 5));
            else return 0;
            fflush(stdout);
        }
        sample_age();
    }
}
