/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A server with a number of cores that all jobs share alike, none of them above one core: processor sharing.
 *
 * It is computed, not burned. While n jobs are there each of them gains service at the rate
 * speed * min(1, cores / n), so all gain the same, and it is enough to keep one sum ("attained") and, for each job, the
 * value of that sum at which it is done. Whoever drives it handles ends of jobs in order and at the times that
 * station_next() gives, however late the driver itself woke up; so no capacity is lost to the machine underneath.
 *
 * Times are seconds of any clock that only goes forward.
 */
#ifndef SLUICEGATE_BENCH_SHARING_H
#define SLUICEGATE_BENCH_SHARING_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>

struct job {
    double done_at; /* value of "attained" at which it is done */
    double since;   /* when it came */
    void *owner;
};

struct station {
    double cores;
    double speed;    /* 1: as it should be; 0.2: every job takes five times as long; 0: it hangs */
    double attained; /* service that a job which was there from the beginning would have got, in seconds */
    double last;     /* the time up to which all of this is computed */
    double busy;     /* core-seconds in use, those that a fault wastes included */
    double work;     /* seconds of service of all jobs done */
    unsigned long completed;
    struct job *heap; /* the next to be done first */
    size_t jobs, room;
};

static inline double station_rate(const struct station *s)
{
    if (!s->jobs)
        return 0.0;
    return s->speed * fmin(1.0, s->cores / (double)s->jobs);
}

static inline void station_advance(struct station *s, double now)
{
    double passed = now - s->last;

    if (passed <= 0.0)
        return;
    s->attained += passed * station_rate(s);
    s->busy += passed * fmin((double)s->jobs, s->cores);
    s->last = now;
}

/* When the next job is done if nothing else happens; INFINITY for never. */
static inline double station_next(const struct station *s)
{
    double rate = station_rate(s);

    if (rate <= 0.0)
        return INFINITY;
    return s->last + fmax(0.0, s->heap[0].done_at - s->attained) / rate;
}

/* A job of so many seconds of one core arrives. False: no memory. */
static inline bool station_push(struct station *s, double now, double seconds, void *owner)
{
    size_t i;

    station_advance(s, now);
    if (s->jobs == s->room) {
        size_t room = s->room ? 2 * s->room : 64;
        struct job *heap = realloc(s->heap, room * sizeof(*heap));

        if (!heap)
            return false;
        s->heap = heap;
        s->room = room;
    }
    for (i = s->jobs++; i && s->heap[(i - 1) / 2].done_at > s->attained + seconds; i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = (struct job){.done_at = s->attained + seconds, .since = now, .owner = owner};
    s->work += seconds;
    return true;
}

/* The next job is done, at the time that station_next() gave. There must be one. */
static inline struct job station_pop(struct station *s, double when)
{
    struct job first = s->heap[0], moved;
    size_t i = 0, child;

    station_advance(s, when);
    s->attained = first.done_at;
    moved = s->heap[--s->jobs];
    while ((child = 2 * i + 1) < s->jobs) {
        if (child + 1 < s->jobs && s->heap[child + 1].done_at < s->heap[child].done_at)
            child++;
        if (moved.done_at <= s->heap[child].done_at)
            break;
        s->heap[i] = s->heap[child];
        i = child;
    }
    s->heap[i] = moved;
    s->completed++;
    return first;
}

static inline void station_set_speed(struct station *s, double now, double speed)
{
    station_advance(s, now);
    s->speed = speed;
}

#endif
