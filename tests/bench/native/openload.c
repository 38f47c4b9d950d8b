/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Open-loop load: requests go out when they are planned, whatever became of those before them.
 *
 *   openload --target ADDRESS:PORT --sources FIRST,COUNT --timeout SECONDS --results FILE <TRACE
 *   openload ... --rate PER_SECOND --count N
 *   openload ... [--from PORT] [--delay SECONDS]
 *
 * Lines of a trace, in order of time: "MICROSECONDS SERVICE SOURCE": when, the microseconds of one core that it takes
 * (sent in the request), and the index of the client's address. With --rate they are N evenly spaced ones without
 * service. Each request has a connection of its own, from ports given out in order (from 1024 on), so a trace has the
 * same clients every time.
 *
 * It begins SECONDS (1) after it printed "started ZERO", CLOCK_MONOTONIC of the trace's zero. Every request ends as a
 * record in FILE: latency from the planned time; infinite when it failed. After the last one was sent it waits for the
 * answers under way, each until its timeout. The last line printed is "done REQUESTS FAILED CPU_SECONDS"; the CPU time
 * is its own from "started" on.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_REQUESTS = 1 << 22, MOST_SOURCES = 256, EVENTS = 256, HEAD_BYTES = 512, LAST_PORT = 65535 };

#define LONGEST_SECONDS 900.0
#define NO_BACKEND 65535

enum outcome { UNFINISHED, ANSWERED, RESET, TIMED_OUT, GARBLED, NOT_SENT };

struct record { /* read by Python: see load/generator.py */
    double planned;
    float latency; /* from the planned time; infinite: failed */
    float lag;     /* how late it was sent */
    uint16_t backend;
    uint16_t outcome;
    uint32_t service;
};

struct request { /* one under way */
    int fd;
    uint32_t record;
    size_t filled;
    ssize_t missing; /* bytes of the body; -1: the head is not whole yet */
    char head[HEAD_BYTES];
};

static struct record *records;
static uint8_t *sources;
static struct request **running; /* by record; NULL: not begun or ended */
static size_t count, oldest, failed;
static int poller;
static double zero, timeout_seconds;

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "openload: %s: %s\n", what, strerror(errno));
    exit(1);
}

static _Noreturn void misused(const char *what)
{
    fprintf(stderr, "openload: cannot use %s; openload.c says what it takes\n", what);
    exit(2);
}

static double clock_of(clockid_t which)
{
    struct timespec t;

    clock_gettime(which, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double now(void)
{
    return clock_of(CLOCK_MONOTONIC);
}

static void end(struct request *r, enum outcome outcome, double at)
{
    struct record *record = &records[r->record];

    record->outcome = outcome;
    record->latency = outcome == ANSWERED ? (float)(at - zero - record->planned) : INFINITY;
    failed += outcome != ANSWERED;
    running[r->record] = NULL;
    if (r->fd >= 0)
        close(r->fd);
    free(r);
}

static void launch(size_t index, const struct sockaddr_in *target, struct sockaddr_in source)
{
    struct request *r = calloc(1, sizeof(*r));
    struct epoll_event event = {.events = EPOLLOUT, .data.u64 = index};
    int one = 1;

    if (!r)
        fail("no memory for a request");
    *r = (struct request){.record = (uint32_t)index, .missing = -1};
    running[index] = r;
    records[index].lag = (float)(now() - zero - records[index].planned);
    r->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(r->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(r->fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)); /* a port may rest from another target */
    if (r->fd < 0 || bind(r->fd, (struct sockaddr *)&source, sizeof(source)) ||
        (connect(r->fd, (const struct sockaddr *)target, sizeof(*target)) && errno != EINPROGRESS) ||
        epoll_ctl(poller, EPOLL_CTL_ADD, r->fd, &event)) {
        if (!failed)
            fprintf(stderr, "openload: request %zu was not sent: %s\n", index, strerror(errno));
        end(r, NOT_SENT, 0);
    }
}

/* Connected, or not: what send() says. */
static void writable(struct request *r, double at)
{
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = r->record};
    char text[64];
    int length = snprintf(text, sizeof(text), "GET /%u HTTP/1.1\r\nHost: bench\r\n\r\n", records[r->record].service);

    if (send(r->fd, text, (size_t)length, MSG_NOSIGNAL) != length)
        end(r, RESET, at);
    else if (epoll_ctl(poller, EPOLL_CTL_MOD, r->fd, &event))
        fail("epoll_ctl");
}

/* Read what the head says. False: this is no answer. */
static bool headed(struct request *r)
{
    char *blank, *length, *backend;
    unsigned long bytes, number;

    r->head[r->filled] = 0;
    blank = strstr(r->head, "\r\n\r\n");
    if (!blank)
        return r->filled < sizeof(r->head) - 1;
    length = strcasestr(r->head, "\nContent-Length:");
    backend = strcasestr(r->head, "\nX-Backend:");
    if (strncmp(r->head, "HTTP/1.1 200 ", 13) || !length || !backend ||
        sscanf(length + 16, "%lu", &bytes) != 1 || sscanf(backend + 11, "%lu", &number) != 1)
        return false;
    records[r->record].backend = (uint16_t)number;
    r->missing = (ssize_t)bytes - (ssize_t)(r->filled - (size_t)(blank + 4 - r->head));
    return r->missing >= 0;
}

static void readable(struct request *r, double at)
{
    static char body[1 << 16];
    bool in_head = r->missing < 0;
    ssize_t got = in_head ? recv(r->fd, r->head + r->filled, sizeof(r->head) - 1 - r->filled, 0)
                          : recv(r->fd, body, sizeof(body), 0);

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0) {
        end(r, RESET, at);
        return;
    }
    if (in_head) {
        r->filled += (size_t)got;
        if (!headed(r))
            end(r, GARBLED, at);
        else if (!r->missing)
            end(r, ANSWERED, at);
        return;
    }
    r->missing -= got;
    if (r->missing <= 0)
        end(r, r->missing ? GARBLED : ANSWERED, at);
}

/* All have the same timeout, so they reach it in the order in which they were sent. */
static void expire(size_t sent, double at)
{
    for (; oldest < sent; oldest++) {
        struct request *r = running[oldest];

        if (!r)
            continue;
        if (at - zero < records[oldest].planned + timeout_seconds)
            return;
        end(r, TIMED_OUT, at);
    }
}

static void run(const struct sockaddr_in *target, struct in_addr first_source, int first_port)
{
    uint32_t ports[MOST_SOURCES] = {0};
    struct epoll_event events[EVENTS];
    size_t sent = 0;

    while (oldest < count) {
        double at = now(), wait = 0.05;
        struct timespec timeout = {0};
        int ready;

        while (sent < count && zero + records[sent].planned <= at) {
            uint8_t source = sources[sent];
            int port = first_port + (int)(ports[source]++ % (uint32_t)(LAST_PORT - first_port + 1));
            struct sockaddr_in from = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

            from.sin_addr.s_addr = htonl(ntohl(first_source.s_addr) + source);
            launch(sent++, target, from);
        }
        expire(sent, now());
        if (sent < count)
            wait = fmin(wait, fmax(0.0, zero + records[sent].planned - now()));
        timeout.tv_nsec = (long)(1e9 * wait);
        ready = epoll_pwait2(poller, events, EVENTS, &timeout, NULL);
        if (ready < 0 && errno != EINTR)
            fail("epoll_pwait2");
        for (int i = 0; i < ready; i++) {
            struct request *r = running[events[i].data.u64];

            if (events[i].events & EPOLLOUT)
                writable(r, now());
            else
                readable(r, now());
        }
    }
}

static void plan(double rate, size_t wanted, unsigned int source_count)
{
    unsigned long at, service, last = 0;
    unsigned int source;
    int fields = EOF;

    for (; rate > 0 && count < wanted; count++) {
        records[count] = (struct record){.planned = (double)count / rate, .backend = NO_BACKEND};
        sources[count] = (uint8_t)(count % source_count);
    }
    while (!(rate > 0) && (fields = scanf("%lu %lu %u", &at, &service, &source)) == 3) {
        if (at < last || service > UINT32_MAX || source >= source_count || count == MOST_REQUESTS)
            misused("this line of the trace");
        records[count] = (struct record){
            .planned = 1e-6 * (double)at, .backend = NO_BACKEND, .service = (uint32_t)service};
        sources[count++] = (uint8_t)source;
        last = at;
    }
    if (fields != EOF || !count || records[count - 1].planned > LONGEST_SECONDS)
        misused("the trace");
}

int main(int argc, char **argv)
{
    struct sockaddr_in target = {.sin_family = AF_INET};
    struct in_addr first_source = {0};
    struct rlimit files;
    unsigned int source_count = 0;
    int first_port = 1024;
    size_t wanted = 0;
    double rate = 0, delay = 1, cpu;
    FILE *out = NULL;

    for (int i = 1; i + 1 < argc; i += 2) {
        const char *name = argv[i], *value = argv[i + 1];
        char address[64];
        unsigned short port;

        if (!strcmp(name, "--target") && sscanf(value, "%63[0-9.]:%hu", address, &port) == 2 &&
            inet_pton(AF_INET, address, &target.sin_addr) == 1)
            target.sin_port = htons(port);
        else if (!strcmp(name, "--sources") && sscanf(value, "%63[0-9.],%u", address, &source_count) == 2 &&
                 inet_pton(AF_INET, address, &first_source) == 1 && source_count <= MOST_SOURCES)
            continue;
        else if (!strcmp(name, "--timeout"))
            timeout_seconds = atof(value);
        else if (!strcmp(name, "--results"))
            out = fopen(value, "wb");
        else if (!strcmp(name, "--from"))
            first_port = atoi(value);
        else if (!strcmp(name, "--rate"))
            rate = atof(value);
        else if (!strcmp(name, "--delay"))
            delay = atof(value);
        else if (!strcmp(name, "--count"))
            wanted = strtoul(value, NULL, 10);
        else
            misused(name);
    }
    if (argc % 2 == 0 || !target.sin_port || !source_count || !(timeout_seconds > 0) || !out || first_port < 1 ||
        first_port > LAST_PORT || wanted > MOST_REQUESTS || rate < 0)
        misused("these arguments");
    records = calloc(MOST_REQUESTS, sizeof(*records)); /* pages come with use */
    sources = calloc(MOST_REQUESTS, sizeof(*sources));
    running = calloc(MOST_REQUESTS, sizeof(struct request *));
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!records || !sources || !running || poller < 0)
        fail("no memory");
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1UL);
    plan(rate, wanted, source_count);
    cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID);
    zero = now() + delay;
    printf("started %.9f\n", zero);
    fflush(stdout);
    run(&target, first_source, first_port);
    cpu = clock_of(CLOCK_PROCESS_CPUTIME_ID) - cpu;
    if (fwrite(records, sizeof(*records), count, out) != count || fclose(out))
        fail("the results");
    printf("done %zu %zu %.6f\n", count, failed, cpu);
    return 0;
}
