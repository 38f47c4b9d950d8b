/* SPDX-License-Identifier: Apache-2.0
 *
 * A rule set, checked and compiled: one database per buffer and direction.
 */
#include <stdio.h>
#include <time.h>

#include "internal.h"

static void *copy(const void *from, size_t count, size_t size) {
    void *to = malloc(count * size + 1);
    if (to && count) memcpy(to, from, count * size);
    return to;
}

/* Means something only from the buffer's first byte. */
static bool is_anchored(const struct sg_pattern *pattern) {
    if (pattern->min_offset || pattern->max_offset != UINT64_MAX) return true;
    return (pattern->expression[0] == '^' && !(pattern->flags & HS_FLAG_MULTILINE)) ||
           !strncmp(pattern->expression, "\\A", 2);
}

static int check(const struct sg_ruleset *rules, int64_t *bad) {
    for (uint32_t i = 0; i < rules->pattern_count; i++) {
        const struct sg_pattern *pattern = &rules->patterns[i];
        *bad = i;
        if (pattern->buffer >= SG_BUFFERS) return fail("there is no buffer %u", pattern->buffer);
        if (!(pattern->directions & 3)) return fail("the pattern has no direction");
        if (rules->first_term[i] > rules->first_term[i + 1] || rules->first_term[i + 1] > rules->term_count)
            return fail("the pattern's terms are not in order");
    }
    *bad = -1;
    for (uint32_t i = 0; i < rules->term_count; i++)
        if (rules->terms[i].rule >= rules->rule_count) return fail("term %u is of rule %u of %u", i, rules->terms[i].rule, rules->rule_count);
    for (uint32_t i = 0; i < rules->bare_count; i++)
        if (rules->bare[i] >= rules->rule_count) return fail("there is no rule %u", rules->bare[i]);
    for (uint32_t i = 0; i < rules->rule_count; i++) {
        const struct sg_rule *rule = &rules->rules[i];
        const uint32_t addresses = rules->address_set_count, ports = rules->port_set_count;
        if ((rule->source && rule->source >= addresses) || (rule->destination && rule->destination >= addresses) ||
            (rule->source_port && rule->source_port >= ports) ||
            (rule->destination_port && rule->destination_port >= ports))
            return fail("rule %u (sid %u) names a set that is not there", i, rule->sid);
        if (rule->action > SG_DROP) return fail("rule %u (sid %u) has no action %u", i, rule->sid, rule->action);
    }
    for (uint32_t i = 0; i < rules->address_set_count; i++)
        if (rules->address_sets[i].first + (uint64_t)rules->address_sets[i].count > rules->range_count)
            return fail("address set %u goes beyond the ranges", i);
    for (uint32_t i = 0; i < rules->port_set_count; i++)
        if (rules->port_sets[i].first + (uint64_t)rules->port_sets[i].count > rules->port_count)
            return fail("port set %u goes beyond the ports", i);
    return 0;
}

static hs_database_t *build(const char **expressions, unsigned *flags, unsigned *ids, const hs_expr_ext_t **extended,
                            unsigned count, unsigned mode, unsigned *refused) {
    hs_database_t *database = NULL;
    hs_compile_error_t *error = NULL;
    *refused = 0;
    if (!hs_compile_ext_multi(expressions, flags, ids, extended, count, mode, NULL, &database, &error)) return database;
    if (error && error->expression >= 0) *refused = ids[error->expression];
    fail("%s", error ? error->message : "Vectorscan does not compile this");
    hs_free_compile_error(error);
    return NULL;
}

static hs_expr_ext_t extension(const struct sg_pattern *pattern) {
    hs_expr_ext_t extended = {0};
    if (pattern->min_offset) {
        extended.flags |= HS_EXT_FLAG_MIN_OFFSET;
        extended.min_offset = pattern->min_offset;
    }
    if (pattern->max_offset != UINT64_MAX) {
        extended.flags |= HS_EXT_FLAG_MAX_OFFSET;
        extended.max_offset = pattern->max_offset;
    }
    return extended;
}

/* The database of one buffer and direction; 0 also when it has no pattern. */
static int one_database(struct sg_compiled *made, const struct sg_ruleset *rules, int buffer, int direction,
                        int64_t *bad) {
    uint32_t count = 0, all = rules->pattern_count, refused = 0;
    const char **expressions = calloc(all, sizeof *expressions);
    unsigned *flags = calloc(all, sizeof *flags), *ids = calloc(all, sizeof *ids);
    hs_expr_ext_t *extended = calloc(all, sizeof *extended);
    const hs_expr_ext_t **pointers = calloc(all, sizeof *pointers);
    int result = 0;
    for (uint32_t i = 0; expressions && flags && ids && extended && pointers && i < all; i++) {
        const struct sg_pattern *pattern = &rules->patterns[i];
        if (pattern->buffer != buffer || !(pattern->directions & 1 << direction)) continue;
        expressions[count] = pattern->expression;
        flags[count] = pattern->flags;
        ids[count] = i;
        extended[count] = extension(pattern);
        pointers[count] = &extended[count];
        count++;
    }
    if (count) {
        made->database[buffer][direction] =
            build(expressions, flags, ids, pointers, count, buffer == SG_BUF_STREAM ? HS_MODE_STREAM : HS_MODE_BLOCK,
                  &refused);
        if (!made->database[buffer][direction]) {
            *bad = refused;
            result = -1;
        }
    }
    free(expressions);
    free(flags);
    free(ids);
    free(extended);
    free(pointers);
    return result;
}

static void facts(struct sg_compiled *made) {
    bool *seen = calloc(made->rule_count + 1, sizeof *seen);
    for (uint32_t i = 0; i < made->pattern_count; i++) {
        uint8_t buffer = made->patterns[i].buffer;
        if (buffer >= SG_BUF_HTTP_URI && buffer != SG_BUF_DNS_QUERY) made->heads = true;
        for (uint32_t j = made->first_term[i]; j < made->first_term[i + 1]; j++) {
            struct rule_facts *rule = &made->facts[made->terms[j].rule];
            if (seen) seen[made->terms[j].rule] = true;
            if (buffer == SG_BUF_PACKET) rule->packet_bits |= made->terms[j].bits;
            if (buffer >= SG_BUF_HTTP_URI) rule->heads |= (uint16_t)(1u << buffer);
        }
    }
    for (uint32_t i = 0; i < made->rule_count; i++) {
        made->facts[i].patternless = seen && !seen[i];
        if (made->rules[i].app == SG_HTTP || made->rules[i].app == SG_TLS) made->heads = true;
    }
    free(seen);
}

struct sg_compiled *sg_compile(const struct sg_ruleset *rules, int64_t *bad) {
    *bad = -1;
    if (check(rules, bad)) return NULL;
    struct sg_compiled *made = calloc(1, sizeof *made);
    if (!made) {
        fail("no memory");
        return NULL;
    }
    made->patterns = copy(rules->patterns, rules->pattern_count, sizeof *made->patterns);
    made->anchored = calloc(rules->pattern_count + 1, sizeof *made->anchored);
    made->first_term = copy(rules->first_term, rules->pattern_count + (size_t)1, sizeof *made->first_term);
    made->terms = copy(rules->terms, rules->term_count, sizeof *made->terms);
    made->rules = copy(rules->rules, rules->rule_count, sizeof *made->rules);
    made->facts = calloc(rules->rule_count + 1, sizeof *made->facts);
    made->bare = copy(rules->bare, rules->bare_count, sizeof *made->bare);
    made->address_sets = copy(rules->address_sets, rules->address_set_count, sizeof *made->address_sets);
    made->ranges = copy(rules->ranges, rules->range_count, sizeof *made->ranges);
    made->port_sets = copy(rules->port_sets, rules->port_set_count, sizeof *made->port_sets);
    made->ports = copy(rules->ports, rules->port_count, sizeof *made->ports);
    if (!made->patterns || !made->anchored || !made->first_term || !made->terms || !made->rules || !made->facts ||
        !made->bare || !made->address_sets || !made->ranges || !made->port_sets || !made->ports) {
        fail("no memory");
        sg_compiled_free(made);
        return NULL;
    }
    made->pattern_count = rules->pattern_count;
    made->rule_count = rules->rule_count;
    made->bare_count = rules->bare_count;
    made->address_set_count = rules->address_set_count;
    made->port_set_count = rules->port_set_count;
    memcpy(made->reach, rules->reach, sizeof made->reach);
    memcpy(made->keep_for_app, rules->keep_for_app, sizeof made->keep_for_app);
    for (uint32_t i = 0; i < made->pattern_count; i++) {
        made->anchored[i] = is_anchored(&rules->patterns[i]);
        made->patterns[i].expression = NULL;
    }
    facts(made);
    for (int buffer = 0; buffer < SG_BUFFERS; buffer++)
        for (int direction = 0; direction < 2; direction++)
            if (one_database(made, rules, buffer, direction, bad)) {
                sg_compiled_free(made);
                return NULL;
            }
    return made;
}

size_t sg_compiled_bytes(const struct sg_compiled *made) {
    size_t total = sizeof *made, size;
    for (int buffer = 0; buffer < SG_BUFFERS; buffer++)
        for (int direction = 0; direction < 2; direction++)
            if (made->database[buffer][direction] && !hs_database_size(made->database[buffer][direction], &size))
                total += size;
    return total;
}

void sg_compiled_free(struct sg_compiled *made) {
    if (!made) return;
    for (int buffer = 0; buffer < SG_BUFFERS; buffer++)
        for (int direction = 0; direction < 2; direction++) hs_free_database(made->database[buffer][direction]);
    free(made->patterns);
    free(made->anchored);
    free(made->first_term);
    free(made->terms);
    free(made->rules);
    free(made->facts);
    free(made->bare);
    free(made->address_sets);
    free(made->ranges);
    free(made->port_sets);
    free(made->ports);
    free(made);
}

static int count_match(unsigned id, unsigned long long from, unsigned long long to, unsigned flags, void *context) {
    (void)id;
    (void)from;
    (void)to;
    (void)flags;
    ++*(uint64_t *)context;
    return 0;
}

static int64_t thread_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

int64_t sg_time_pattern(const struct sg_pattern *pattern, const uint8_t *sample, size_t length, uint32_t chunk,
                        uint64_t *matches) {
    hs_expr_ext_t extended = extension(pattern);
    const hs_expr_ext_t *pointer = &extended;
    const char *expression = pattern->expression;
    unsigned flags = pattern->flags, id = 0, refused;
    hs_scratch_t *scratch = NULL;
    hs_stream_t *stream = NULL;
    int64_t result = -1;
    *matches = 0;
    bool streams = pattern->buffer == SG_BUF_STREAM;
    hs_database_t *database =
        build(&expression, &flags, &id, &pointer, 1, streams ? HS_MODE_STREAM : HS_MODE_BLOCK, &refused);
    if (!database) return -1;
    if (hs_alloc_scratch(database, &scratch) || (streams && hs_open_stream(database, 0, &stream))) {
        fail("no memory to scan");
        goto out;
    }
    int64_t start = thread_ns();
    for (size_t at = 0; at < length && chunk; at += chunk) {
        const char *data = (const char *)sample + at;
        unsigned bytes = (unsigned)(length - at < chunk ? length - at : chunk);
        if (streams) hs_scan_stream(stream, data, bytes, 0, scratch, count_match, matches);
        else hs_scan(database, data, bytes, 0, scratch, count_match, matches);
    }
    result = thread_ns() - start;
out:
    if (stream) hs_close_stream(stream, scratch, NULL, NULL);
    hs_free_scratch(scratch);
    hs_free_database(database);
    return result;
}
