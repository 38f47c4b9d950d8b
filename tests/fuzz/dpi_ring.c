/* SPDX-License-Identifier: Apache-2.0
 *
 * The sniffer's engine fed with rings of any content, under the address and undefined behaviour sanitizers.
 *
 * With clang it is a libFuzzer target. With gcc (-DSTANDALONE) it changes the seeds at random itself:
 *     dpi_ring SEEDS_DIRECTORY SECONDS SEED
 * and writes the input before each run to ./crash-candidate, so that a crash leaves its cause behind.
 *
 * nDPI takes part when SLUICEGATE_NDPI is set: path, flow size, serializer size, offsets of state, confidence and
 * risk, with colons between.
 *
 * First byte of an input: bit 0, make lengths fit, so that more inputs get behind the first checks; bit 1, take the
 * rules away in the middle; bit 2, verdicts off. The ring begins at byte 8.
 */
#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine.h"

enum { HEADER = 8, LIMIT = 1 << 18 };
static struct sg_engine *engine;
static uint64_t words[64];

static void die(const char *what) {
    fprintf(stderr, "%s: %s\n", what, sg_error());
    abort();
}

static struct sg_compiled *rules(void) {
    static const struct sg_pattern patterns[] = {
        {"(?i)union\\s+select", 3, SG_BUF_STREAM, 3, 0, 0, UINT64_MAX},
        {"^GET", 2, SG_BUF_STREAM, 1, 0, 0, UINT64_MAX},
        {"[a-z]{4}$", 2, SG_BUF_STREAM, 3, 0, 0, UINT64_MAX},
        {"e.{2,40}e", 2, SG_BUF_PACKET, 3, 0, 0, 200},
        {"/", 2, SG_BUF_HTTP_URI, 1, 0, 0, UINT64_MAX},
        {"%", 2, SG_BUF_HTTP_URI_RAW, 1, 0, 0, UINT64_MAX},
        {"e", 2, SG_BUF_HTTP_HOST, 1, 0, 0, UINT64_MAX},
        {".", 2, SG_BUF_HTTP_AGENT, 1, 0, 0, UINT64_MAX},
        {"G", 2, SG_BUF_HTTP_METHOD, 1, 0, 0, UINT64_MAX},
        {"example", 2, SG_BUF_TLS_SNI, 1, 0, 0, UINT64_MAX},
        {"example", 2, SG_BUF_DNS_QUERY, 1, 0, 0, UINT64_MAX},
    };
    static const uint32_t first[] = {0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
    static const struct sg_term terms[] = {{0, 1}, {1, 1}, {2, 2}, {1, 2}, {3, 1}, {4, 1}, {4, 2},
                                           {4, 4}, {5, 1}, {6, 1}, {7, 1}, {8, 1}};
    static struct sg_rule all[10];
    static const uint32_t bare[] = {9};
    static const struct sg_set sets[] = {{0, 0}, {0, 1}};
    static const struct sg_range ranges[] = {{{0}, {255, 255, 255}}};
    static const struct sg_ports ports[] = {{1, 60000}};
    for (uint32_t i = 0; i < 10; i++) all[i] = (struct sg_rule){.need = 1, .sid = i, .dsize_high = 65535};
    all[1].need = 3;
    all[2].forbid = 1;
    all[2].need = 2;
    all[2].app = SG_HTTP;
    all[3].source = 1;
    all[3].destination_port = 1;
    all[3].dsize_high = 100;
    all[4].need = 3;
    all[4].forbid = 4;
    all[4].request_bits = 7;
    all[7].action = SG_DROP;
    all[9].need = 0;
    all[9].flags = SG_RULE_BOTH_WAYS | SG_RULE_ESTABLISHED;
    struct sg_ruleset set = {
        .patterns = patterns, .first_term = first, .terms = terms, .rules = all, .bare = bare,
        .address_sets = sets, .ranges = ranges, .port_sets = sets, .ports = ports,
        .pattern_count = 11, .term_count = 12, .rule_count = 10, .bare_count = 1,
        .address_set_count = 2, .range_count = 1, .port_set_count = 2, .port_count = 1,
    };
    memset(set.keep_for_app, 1, sizeof set.keep_for_app);
    int64_t bad;
    struct sg_compiled *compiled = sg_compile(&set, &bad);
    if (!compiled) die("rules");
    return compiled;
}

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    (void)argc;
    (void)argv;
    struct sg_limits limits = {.max_flows = 64, .max_undecided = 16, .max_events = 512, .blob_bytes = 1 << 19,
                               .max_held_bytes = 1 << 18, .held_bytes = 8192, .idle_seconds = {5, 60, 30, 2}};
    engine = sg_new(&limits);
    if (!engine) die("engine");
    struct sg_tables tables;
    memset(&tables, 0, sizeof tables);
    memset(tables.want, 3, sizeof tables.want);
    tables.encrypted[91] = 1;
    tables.app[7] = SG_HTTP;
    tables.app[5] = SG_DNS;
    sg_tables_set(engine, &tables);
    for (uint32_t number = 0; number < 4; number++) {
        struct sg_policy policy = {.max_packets = number * 8, .payload_packets = number * 5, .classify = number != 3};
        if (sg_policy_set(engine, number, &policy)) die("policy");
    }
    if (sg_rules_swap(engine, 0, rules()) || sg_rules_swap(engine, 1, rules())) die("rules");
    char *known = getenv("SLUICEGATE_NDPI");
    if (!known) return 0;
    static char path[4096];
    struct sg_ndpi_setup setup = {.path = path};
    if (sscanf(known, "%4095[^:]:%u:%u:%u:%u:%u", path, &setup.flow_size, &setup.serializer_size, &setup.state_offset,
               &setup.confidence_offset, &setup.risk_offset) != 6)
        die("SLUICEGATE_NDPI");
    if (sg_ndpi_open(engine, &setup) || sg_ndpi_start(engine)) die("nDPI");
    return 0;
}

static void take_events(void) {
    const struct sg_event *events;
    const uint8_t *blob;
    uint32_t length, count = sg_events(engine, &events, &blob, &length);
    for (uint32_t i = 0; i < count; i++)
        if (events[i].blob_len < sg_sizeof_detail() || events[i].blob_off + events[i].blob_len > length) abort();
}

/* Entries that end where the ring does, and records that describe the packet behind them. */
static void make_fit(uint8_t *ring, uint64_t end) {
    for (uint64_t at = 0; at + 8 <= end;) {
        uint32_t length;
        memcpy(&length, ring + at, 4);
        length &= 0x7ff;
        if (length > end - at - 8) length = (uint32_t)(end - at - 8);
        memcpy(ring + at, &length, 4);
        if (length >= sizeof(struct sg_record) + 20) {
            struct sg_record *record = (void *)(ring + at + 8);
            const uint8_t *l3 = (void *)(record + 1);
            record->cap_len = (uint16_t)(length - sizeof *record);
            record->flow_id &= 0xf0000000fu;
            record->policy &= 3;
            bool six = l3[0] >> 4 == 6 && record->cap_len >= 40;
            record->flags = (uint8_t)((record->flags & ~SG_IPV6) | (six ? SG_IPV6 : 0));
            uint32_t l4 = six ? 40 : (l3[0] & 15) * 4u;
            record->l4_proto = six ? l3[6] : l3[9];
            record->l4_off = (uint16_t)(l4 > record->cap_len ? record->cap_len : l4);
            uint32_t payload = l4 + (record->l4_proto == 17 ? 8 : 0);
            if (record->l4_proto == 6 && l4 + 20 <= record->cap_len) payload = l4 + (l3[l4 + 12] >> 4) * 4u;
            record->pl_off = (uint16_t)(payload > record->cap_len ? record->cap_len : payload);
            record->pl_len = (uint16_t)(record->cap_len - record->pl_off);
        }
        at += (8 + (uint64_t)length + 7) & ~7ull;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < HEADER || size > LIMIT) return 0;
    uint64_t consumer = 0, producer = (size - HEADER) & ~7ull;
    uint8_t *ring = malloc(producer + 1); /* exactly: a byte beyond is an error that the sanitizer sees */
    memcpy(ring, data + HEADER, producer);
    if (data[0] & 1) make_fit(ring, producer);
    sg_verdict_words(engine, data[0] & 4 ? NULL : words, 63);
    struct sg_ring place = {&consumer, &producer, ring, UINT64_MAX};
    for (int round = 0; consumer < producer; round++) {
        int taken = sg_run(engine, &place, 8);
        take_events();
        if (!taken && consumer < producer) { /* a busy entry: nothing writes it any more */
            uint32_t length;
            memcpy(&length, ring + consumer, 4);
            length &= 0x3fffffff;
            memcpy(ring + consumer, &length, 4);
        }
        for (uint64_t i = 0; data[0] & 8 && i < 16; i++) { /* some of them are flows */
            if (sg_drop(engine, i << 32 | ((i + (uint64_t)round) & 15), (uint32_t)i, SG_BY_RULE, 1) < 0) abort();
            take_events();
        }
        if (round == 2 && data[0] & 2 && sg_rules_swap(engine, 0, round & 1 ? NULL : rules())) abort();
    }
    sg_expire(engine, UINT64_MAX / 2, 8);
    take_events();
    while (sg_flush(engine, UINT64_MAX / 2, 1000)) take_events();
    take_events();
    struct sg_stats stats;
    sg_stats_get(engine, &stats);
    /* Nothing is left of the flows: no stream, no memory, no nDPI state. */
    if (stats.flows_now || stats.undecided_now || stats.streams_now || stats.held_now || stats.events_lost) {
        fprintf(stderr, "left behind: flows %llu undecided %llu streams %llu held %llu lost %llu\n",
                (unsigned long long)stats.flows_now, (unsigned long long)stats.undecided_now,
                (unsigned long long)stats.streams_now, (unsigned long long)stats.held_now,
                (unsigned long long)stats.events_lost);
        abort();
    }
    free(ring);
    return 0;
}

#ifdef STANDALONE
enum { SEEDS = 256 };
static struct { uint8_t *data; size_t size; } seeds[SEEDS];
static int seed_count;
static uint64_t state;

static uint32_t pick(uint32_t below) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return (uint32_t)((state * 0x2545F4914F6CDD1Dull) >> 32) % below;
}

static void load(const char *directory) {
    DIR *entries = opendir(directory);
    if (!entries) die("seeds");
    for (struct dirent *entry; (entry = readdir(entries)) && seed_count < SEEDS;) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", directory, entry->d_name);
        FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "rb");
        if (!file) continue;
        seeds[seed_count].data = malloc(LIMIT);
        seeds[seed_count].size = fread(seeds[seed_count].data, 1, LIMIT, file);
        if (seeds[seed_count].size >= HEADER) seed_count++;
        fclose(file);
    }
    closedir(entries);
}

static size_t change(uint8_t *data, size_t size) {
    static const uint8_t special[] = {0, 1, 4, 6, 17, 20, 40, 48, 127, 128, 255};
    for (uint32_t changes = 1 + pick(6); changes; changes--) {
        uint32_t at = pick((uint32_t)size);
        switch (pick(6)) {
        case 0: data[at] ^= (uint8_t)(1u << pick(8)); break;
        case 1: data[at] = (uint8_t)pick(256); break;
        case 2: data[at] = special[pick(sizeof special)]; break;
        case 3: if (size > HEADER + 64) size -= pick(64); break;
        case 4: { /* a piece of another seed, at a place of the same alignment */
            uint32_t other = pick((uint32_t)seed_count);
            uint32_t from = pick((uint32_t)seeds[other].size) & ~7u, to = at & ~7u;
            size_t length = seeds[other].size - from;
            if (to + length > LIMIT) length = LIMIT - to;
            memcpy(data + to, seeds[other].data + from, length);
            if (to + length > size) size = to + length;
            break;
        }
        default: data[0] = (uint8_t)pick(8); break;
        }
    }
    return size;
}

int main(int argc, char **argv) {
    if (argc == 2) { /* one input again */
        static uint8_t data[LIMIT];
        FILE *file = fopen(argv[1], "rb");
        size_t size = file ? fread(data, 1, LIMIT, file) : 0;
        LLVMFuzzerInitialize(NULL, NULL);
        return LLVMFuzzerTestOneInput(data, size);
    }
    if (argc != 4) return 2;
    load(argv[1]);
    state = strtoull(argv[3], NULL, 0) | 1;
    if (!seed_count) return 2;
    LLVMFuzzerInitialize(NULL, NULL);
    static uint8_t data[LIMIT];
    struct timespec now, start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    uint64_t runs = 0;
    do {
        uint32_t which = pick((uint32_t)seed_count);
        size_t size = seeds[which].size;
        memcpy(data, seeds[which].data, size);
        size = change(data, size);
        FILE *file = fopen("crash-candidate", "wb");
        if (file) {
            fwrite(data, 1, size, file);
            fclose(file);
        }
        LLVMFuzzerTestOneInput(data, size);
        runs++;
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while (now.tv_sec - start.tv_sec < atol(argv[2]));
    remove("crash-candidate");
    printf("%llu runs\n", (unsigned long long)runs);
    for (int i = 0; i < seed_count; i++) free(seeds[i].data);
    sg_free(engine);
    return 0;
}
#endif
