/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the backends of pool.c must take for given arrivals, without any network.
 *
 *   predict CORES ... <ARRIVALS
 *
 * Comes in, in order of time: "SECONDS BACKEND SERVICE_SECONDS", or "SECONDS BACKEND speed FACTOR" when that backend
 * works at FACTOR times its speed from then on. Goes out, for each arrival in the same order: the seconds it took.
 */
#include <stdio.h>
#include <string.h>

#include "sharing.h"

enum { MOST_BACKENDS = 256, MOST_ARRIVALS = 1 << 22 };

static struct station stations[MOST_BACKENDS];
static double *took;

static _Noreturn void misused(const char *what)
{
    fprintf(stderr, "predict: cannot use %s; predict.c says what it takes\n", what);
    exit(2);
}

static void run_until(struct station *s, double at)
{
    double next;

    while ((next = station_next(s)) <= at && next < INFINITY) {
        struct job job = station_pop(s, next);

        *(double *)job.owner = next - job.since;
    }
}

int main(int argc, char **argv)
{
    size_t backends = (size_t)argc - 1, arrivals = 0;
    char line[256], *end;

    if (argc < 2 || backends > MOST_BACKENDS)
        misused("these arguments");
    for (size_t i = 0; i < backends; i++) {
        stations[i] = (struct station){.cores = strtod(argv[i + 1], &end), .speed = 1};
        if (*end || !(stations[i].cores > 0))
            misused(argv[i + 1]);
    }
    took = malloc(MOST_ARRIVALS * sizeof(*took));
    if (!took)
        misused("so little memory");
    while (fgets(line, sizeof(line), stdin)) {
        unsigned int index;
        char word[16];
        double at, number;

        if (sscanf(line, "%lf %u speed %lf", &at, &index, &number) == 3 && index < backends && number >= 0) {
            run_until(&stations[index], at);
            station_set_speed(&stations[index], at, number);
            continue;
        }
        if (sscanf(line, "%lf %u %15s", &at, &index, word) != 3 || index >= backends || arrivals == MOST_ARRIVALS)
            misused(line);
        number = strtod(word, &end);
        if (*end || !(number >= 0) || at < stations[index].last)
            misused(line);
        run_until(&stations[index], at);
        took[arrivals] = INFINITY;
        if (!station_push(&stations[index], at, number, &took[arrivals++]))
            misused("so little memory");
    }
    for (size_t i = 0; i < backends; i++)
        run_until(&stations[i], INFINITY);
    for (size_t i = 0; i < arrivals; i++)
        printf("%.9g\n", took[i]);
    return 0;
}
