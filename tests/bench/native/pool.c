/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Backends of a benchmark: one process, one HTTP server per address, each emulating a machine with some cores.
 *
 *   pool --port P [--body BYTES] --log FILE ADDRESS=CORES ...
 *
 * A request "GET /SERVICE" takes SERVICE microseconds of one core, shared with all others of that backend (sharing.h);
 * 0 is answered at once. "GET /load" answers at once with the load, in ORCA's names. Answers name their backend, and
 * connections stay open until the client closes them.
 *
 * Lines on standard input, each answered by one on standard output, "ok SECONDS" of CLOCK_MONOTONIC or "error WHY":
 *   slow N FACTOR    backend N takes FACTOR times as long from now on
 *   hang N           backend N takes connections and requests and answers none
 *   hole N           backend N resets every connection that brings a request
 *   recover N        backend N is as it was
 * At the end of the input the log is written: one record per request.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "sharing.h"

enum { MOST_BACKENDS = 256, MOST_RECORDS = 1 << 22, MOST_BODY = 1 << 16, REQUEST_BYTES = 512, EVENTS = 256 };

#define LOAD_WINDOW 0.5 /* seconds over which /load is measured, at least */

struct record { /* read by Python: see load/generator.py */
    double at;  /* when the request came, CLOCK_MONOTONIC */
    float took; /* seconds in service; negative: never done */
    uint32_t service;
    uint32_t backend;
    uint32_t reset; /* 1: answered by a reset */
};

struct backend {
    struct station station;
    int listener;
    bool hole;
    double window_at, window_busy, utilization, rps; /* of the last window of /load */
    unsigned long window_completed;
};

struct connection {
    struct connection *next_dead;
    int fd; /* -1: closed, or the client is gone while its job is not yet done */
    bool serving;
    uint16_t backend;
    uint32_t record;
    size_t filled;
    char request[REQUEST_BYTES];
};

static struct backend backends[MOST_BACKENDS];
static size_t backend_count, record_count, body_bytes;
static struct record *records;
static int poller;
static struct connection *dead; /* freed after the events at hand, which may still name them */
static char answer[MOST_BODY + 256];

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "pool: %s: %s\n", what, strerror(errno));
    exit(1);
}

static _Noreturn void misused(const char *what)
{
    fprintf(stderr, "pool: cannot use %s; pool.c says what it takes\n", what);
    exit(2);
}

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void watch(int fd, void *what)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = what};

    if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event))
        fail("epoll_ctl");
}

static void bury(struct connection *c)
{
    c->next_dead = dead;
    dead = c;
}

static void forget(struct connection *c, bool reset)
{
    struct linger at_once = {.l_onoff = 1, .l_linger = 0};

    if (reset)
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
    close(c->fd);
    c->fd = -1;
    if (!c->serving)
        bury(c);
}

/* An answer is far smaller than a send buffer, and a connection has one at a time: it is taken whole or never. */
static void respond(struct connection *c, const char *type, const char *body, size_t bytes)
{
    const char *form = "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\nX-Backend: %u\r\n\r\n";
    int head = snprintf(answer, 256, form, type, bytes, c->backend);

    if (body)
        memcpy(answer + head, body, bytes);
    else
        memset(answer + head, '.', bytes);
    if (send(c->fd, answer, (size_t)head + bytes, MSG_NOSIGNAL) != head + (ssize_t)bytes)
        forget(c, true);
}

static void respond_load(struct connection *c, double at)
{
    struct backend *b = &backends[c->backend];
    struct station *s = &b->station;
    double passed = at - b->window_at;
    char body[160];

    station_advance(s, at);
    if (passed >= LOAD_WINDOW) {
        b->utilization = (s->busy - b->window_busy) / (passed * s->cores);
        b->rps = (double)(s->completed - b->window_completed) / passed;
        b->window_at = at;
        b->window_busy = s->busy;
        b->window_completed = s->completed;
    }
    snprintf(body, sizeof(body), "{\"application_utilization\": %.6f, \"rps_fractional\": %.3f, \"eps\": 0}\n",
         b->utilization, b->rps);
    respond(c, "application/json", body, strlen(body));
}

static void complete(struct backend *b, double at)
{
    struct job job = station_pop(&b->station, at);
    struct connection *c = job.owner;

    records[c->record].took = (float)(at - job.since);
    c->serving = false;
    if (c->fd < 0)
        bury(c);
    else
        respond(c, "text/plain", NULL, body_bytes);
}

/* Carry out what is due by now, in order; gives when the next job is done. */
static double run_until(double at)
{
    for (;;) {
        struct backend *first = NULL;
        double next = INFINITY;

        for (size_t i = 0; i < backend_count; i++) {
            double done = station_next(&backends[i].station);

            if (done < next) {
                next = done;
                first = &backends[i];
            }
        }
        if (next > at)
            return next;
        complete(first, next);
    }
}

static void begin(struct connection *c, double at, unsigned long service)
{
    struct backend *b = &backends[c->backend];

    if (record_count == MOST_RECORDS) {
        forget(c, true);
        return;
    }
    c->record = (uint32_t)record_count++;
    records[c->record] = (struct record){
        .at = at, .took = -1, .service = (uint32_t)service, .backend = c->backend, .reset = b->hole};
    if (b->hole) {
        forget(c, true);
    } else if (service) {
        c->serving = true;
        if (!station_push(&b->station, at, 1e-6 * (double)service, c))
            fail("no memory for a job");
    } else {
        records[c->record].took = 0;
        b->station.completed++;
        respond(c, "text/plain", NULL, body_bytes);
    }
}

static void readable(struct connection *c, double at)
{
    unsigned long service;
    ssize_t got;

    if (c->fd < 0)
        return;
    got = recv(c->fd, c->request + c->filled, sizeof(c->request) - 1 - c->filled, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0 || c->serving) { /* gone; or it speaks before its turn */
        forget(c, got > 0);
        return;
    }
    c->filled += (size_t)got;
    c->request[c->filled] = 0;
    if (!strstr(c->request, "\r\n\r\n")) {
        if (c->filled == sizeof(c->request) - 1)
            forget(c, true);
        return;
    }
    c->filled = 0;
    if (!strncmp(c->request, "GET /load ", 10))
        respond_load(c, at);
    else if (sscanf(c->request, "GET /%lu ", &service) == 1)
        begin(c, at, service);
    else
        forget(c, true);
}

static void accept_all(struct backend *b)
{
    int one = 1;

    for (;;) {
        int fd = accept4(b->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct connection *c;

        if (fd < 0)
            return; /* nothing left, or the client is gone already, or no descriptor is free: it waits */
        c = calloc(1, sizeof(*c));
        if (!c)
            fail("no memory for a connection");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
        c->fd = fd;
        c->backend = (uint16_t)(b - backends);
        watch(fd, c);
    }
}

static const char *command(const char *line, double at)
{
    unsigned int index;
    double factor = 1.0;
    char word[16];
    int fields = sscanf(line, "%15s %u %lf", word, &index, &factor);
    struct backend *b = &backends[index % MOST_BACKENDS];

    if (fields < 2 || index >= backend_count)
        return "which backend?";
    if (!strcmp(word, "slow") && fields == 3 && factor > 0)
        factor = 1 / factor;
    else if (!strcmp(word, "hang"))
        factor = 0;
    else if (strcmp(word, "hole") && strcmp(word, "recover"))
        return "unknown command";
    b->hole = !strcmp(word, "hole");
    station_set_speed(&b->station, at, factor);
    return NULL;
}

/* False: the input has ended. */
static bool commanded(double at)
{
    static char text[512];
    static size_t filled;
    ssize_t got = read(STDIN_FILENO, text + filled, sizeof(text) - 1 - filled);
    char *end;

    if (got <= 0)
        return false;
    filled += (size_t)got;
    text[filled] = 0;
    while ((end = strchr(text, '\n'))) {
        const char *wrong;

        *end++ = 0;
        wrong = command(text, at);
        if (wrong)
            printf("error %s\n", wrong);
        else
            printf("ok %.9f\n", at);
        fflush(stdout);
        filled -= (size_t)(end - text);
        memmove(text, end, filled + 1);
    }
    return filled < sizeof(text) - 1;
}

static void serve(int port, const char *log)
{
    struct epoll_event events[EVENTS];
    struct rlimit files;
    FILE *out = fopen(log, "wb");
    bool going = true;

    records = calloc(MOST_RECORDS, sizeof(*records)); /* pages come with use */
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (!out || !records || poller < 0)
        fail(log);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    prctl(PR_SET_TIMERSLACK, 1UL);
    watch(STDIN_FILENO, NULL);
    for (size_t i = 0; i < backend_count; i++)
        watch(backends[i].listener, &backends[i]);
    printf("ready %d\n", port);
    fflush(stdout);
    while (going) {
        double wait = fmin(0.5, fmax(0.0, run_until(now()) - now()));
        struct timespec timeout = {.tv_nsec = (long)(1e9 * wait)};
        int count = epoll_pwait2(poller, events, EVENTS, &timeout, NULL);
        if (count < 0 && errno != EINTR)
            fail("epoll_pwait2");
        run_until(now());
        for (int i = 0; i < count; i++) {
            void *what = events[i].data.ptr;

            if (!what)
                going = commanded(now());
            else if (what >= (void *)backends && what < (void *)(backends + MOST_BACKENDS))
                accept_all(what);
            else
                readable(what, now());
        }
        for (struct connection *c; (c = dead); free(c))
            dead = c->next_dead;
    }
    if (fwrite(records, sizeof(*records), record_count, out) != record_count || fclose(out))
        fail(log);
}

static void add_backend(char *text, int port)
{
    struct sockaddr_in where = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    char *equals = strchr(text, '=');
    struct backend *b = &backends[backend_count];
    int one = 1;
    double cores;

    if (equals)
        *equals = 0;
    if (!equals || inet_pton(AF_INET, text, &where.sin_addr) != 1)
        misused(text);
    cores = atof(equals + 1);
    if (!(cores > 0) || backend_count++ == MOST_BACKENDS)
        misused(equals + 1);
    *b = (struct backend){.station = {.cores = cores, .speed = 1, .last = now()}, .window_at = now()};
    b->listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    setsockopt(b->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
    if (bind(b->listener, (struct sockaddr *)&where, sizeof(where)) || listen(b->listener, 4096))
        fail(text);
}

int main(int argc, char **argv)
{
    const char *log = NULL;
    int port = 0, i;

    for (i = 1; i + 1 < argc && !strncmp(argv[i], "--", 2); i += 2) {
        if (!strcmp(argv[i], "--port"))
            port = atoi(argv[i + 1]);
        else if (!strcmp(argv[i], "--body"))
            body_bytes = strtoul(argv[i + 1], NULL, 10);
        else if (!strcmp(argv[i], "--log"))
            log = argv[i + 1];
        else
            misused(argv[i]);
    }
    if (i >= argc || !log || port < 1 || port > 65535 || body_bytes > MOST_BODY)
        misused("these arguments");
    while (i < argc)
        add_backend(argv[i++], port);
    serve(port, log);
    return 0;
}
