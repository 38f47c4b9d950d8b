/* SPDX-License-Identifier: Apache-2.0
 *
 * Heads: what the first packets say about a connection. HTTP request, TLS ClientHello, DNS question.
 *
 * Small parsers of our own, not nDPI's metadata: they see the bytes before nDPI has decided, every request of a
 * connection and not only its first, values in full length, and they work while classification is off. They read at
 * most HEAD_BYTES of one head and touch nothing outside of it.
 */
#include "internal.h"

enum outcome { NOT_A_HEAD, INCOMPLETE, COMPLETE };
enum { NAME_BYTES = 255, METHOD_BYTES = 20 };

struct view { const uint8_t *data; uint32_t length; };

static void scan_head(struct sg_engine *engine, enum sg_buffer buffer, struct view view) {
    engine->unit.flow->heads_seen |= (uint16_t)(1u << buffer);
    scan_block(engine, buffer, view.data, view.length);
}

static uint8_t lower(uint8_t byte) { return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte | 0x20) : byte; }

static struct view trim(struct view view) {
    while (view.length && (*view.data == ' ' || *view.data == '\t')) view.data++, view.length--;
    while (view.length && (view.data[view.length - 1] == ' ' || view.data[view.length - 1] == '\t' ||
                           view.data[view.length - 1] == '\r'))
        view.length--;
    return view;
}

static bool named(struct view line, const char *name, struct view *value) {
    uint32_t length = (uint32_t)strlen(name);
    if (line.length <= length || line.data[length] != ':') return false;
    for (uint32_t i = 0; i < length; i++)
        if (lower(line.data[i]) != (uint8_t)name[i]) return false;
    *value = trim((struct view){line.data + length + 1, line.length - length - 1});
    return true;
}

/* ---- HTTP ---- */

static int digit(uint8_t byte) {
    byte = lower(byte);
    return byte >= '0' && byte <= '9' ? byte - '0' : byte >= 'a' && byte <= 'f' ? byte - 'a' + 10 : -1;
}

/* Path and query: %XX decoded once, scheme and authority of an absolute target left out. */
static void scan_uri(struct sg_engine *engine, struct view raw) {
    uint8_t decoded[HEAD_BYTES];
    uint32_t length = 0, at = 0;
    if (raw.length > 7 && lower(raw.data[0]) == 'h') {
        const uint8_t *scheme = memmem(raw.data, raw.length < 12 ? raw.length : 12, "://", 3);
        if (scheme) {
            uint32_t start = (uint32_t)(scheme - raw.data) + 3;
            const uint8_t *path = memchr(raw.data + start, '/', raw.length - start);
            at = path ? (uint32_t)(path - raw.data) : raw.length;
        }
    }
    for (; at < raw.length && length < sizeof decoded; at++) {
        int high = -1, low = -1;
        if (raw.data[at] == '%' && at + 2 < raw.length) {
            high = digit(raw.data[at + 1]);
            low = digit(raw.data[at + 2]);
        }
        if (high >= 0 && low >= 0) {
            decoded[length++] = (uint8_t)(high << 4 | low);
            at += 2;
        } else decoded[length++] = raw.data[at];
    }
    scan_head(engine, SG_BUF_HTTP_URI, (struct view){decoded, length});
}

static void scan_host(struct sg_engine *engine, struct view host) {
    uint8_t name[NAME_BYTES];
    uint32_t length = 0;
    bool bracket = host.length && host.data[0] == '['; /* an IPv6 address has colons of its own */
    for (uint32_t i = 0; i < host.length && length < sizeof name; i++) {
        if (host.data[i] == ':' && !bracket) break;
        name[length++] = lower(host.data[i]);
        if (host.data[i] == ']') break;
    }
    scan_head(engine, SG_BUF_HTTP_HOST, (struct view){name, length});
}

static enum outcome http(struct sg_engine *engine, struct view bytes, bool all_there_is) {
    const uint8_t *end = memchr(bytes.data, '\n', bytes.length);
    if (!end) return bytes.length < HEAD_BYTES && !all_there_is ? INCOMPLETE : NOT_A_HEAD;
    struct view first = trim((struct view){bytes.data, (uint32_t)(end - bytes.data)});
    const uint8_t *space = memchr(first.data, ' ', first.length);
    if (!space) return NOT_A_HEAD;
    struct view method = {first.data, (uint32_t)(space - first.data)};
    struct view target = {space + 1, first.length - method.length - 1};
    const uint8_t *last = memrchr(target.data, ' ', target.length);
    if (!last || target.data + target.length - last < 9 || memcmp(last + 1, "HTTP/", 5)) return NOT_A_HEAD;
    target.length = (uint32_t)(last - target.data);
    target = trim(target);
    struct view host = {0}, agent = {0}, header = {end + 1, 0};
    bool complete = false;
    for (struct view rest = {end + 1, bytes.length - (uint32_t)(end + 1 - bytes.data)}; rest.length;) {
        end = memchr(rest.data, '\n', rest.length);
        if (!end) break;
        struct view line = trim((struct view){rest.data, (uint32_t)(end - rest.data)}), value;
        rest.length -= (uint32_t)(end + 1 - rest.data);
        rest.data = end + 1;
        if (!line.length) {
            complete = true;
            break;
        }
        header.length = (uint32_t)(rest.data - header.data);
        if (!host.data && named(line, "host", &value)) host = value;
        if (!agent.data && named(line, "user-agent", &value)) agent = value;
    }
    if (!complete && !all_there_is && bytes.length < HEAD_BYTES) return INCOMPLETE;
    struct flow *flow = engine->unit.flow;
    flow->layer = SG_HTTP;
    flow->heads_seen = 0;
    rules_new_request(engine, flow);
    scan_head(engine, SG_BUF_HTTP_METHOD, method);
    scan_head(engine, SG_BUF_HTTP_URI_RAW, target);
    scan_uri(engine, target);
    if (host.data) scan_host(engine, host);
    if (agent.data) scan_head(engine, SG_BUF_HTTP_AGENT, agent);
    if (header.length) scan_head(engine, SG_BUF_HTTP_HEADER, header);
    rules_pending(engine);
    return COMPLETE;
}

/* ---- TLS ---- */

/* Takes `length` bytes off the front of `view`; false when it has fewer. */
static bool cut(struct view *view, uint32_t length, struct view *taken) {
    if (view->length < length) return false;
    if (taken) *taken = (struct view){view->data, length};
    view->data += length;
    view->length -= length;
    return true;
}

/* A vector with a length of `size` bytes in front. */
static bool vector(struct view *view, uint32_t size, struct view *taken) {
    struct view prefix;
    if (!cut(view, size, &prefix)) return false;
    return cut(view, size == 1 ? prefix.data[0] : be16(prefix.data), taken);
}

static void client_hello(struct sg_engine *engine, struct view hello) {
    struct view extensions, body, list, name;
    engine->unit.flow->layer = SG_TLS;
    rules_pending(engine);
    /* Version and random, session id, cipher suites, compression methods. */
    if (!cut(&hello, 34, NULL) || !vector(&hello, 1, NULL) || !vector(&hello, 2, NULL) || !vector(&hello, 1, NULL) ||
        !vector(&hello, 2, &extensions))
        return;
    struct view type;
    while (cut(&extensions, 2, &type) && vector(&extensions, 2, &body)) {
        if (be16(type.data) != 0) continue; /* server_name */
        if (vector(&body, 2, &list) && cut(&list, 1, &type) && type.data[0] == 0 && vector(&list, 2, &name)) {
            scan_head(engine, SG_BUF_TLS_SNI, name);
            rules_pending(engine);
        }
        return;
    }
}

/* The handshake message may be spread over several TLS records. */
static enum outcome tls(struct sg_engine *engine, struct view bytes, bool all_there_is) {
    uint8_t joined[HEAD_BYTES];
    uint32_t have = 0;
    while (bytes.length >= 5) {
        uint32_t length = be16(bytes.data + 3);
        if (bytes.data[0] != 22 || bytes.data[1] != 3 || length > HEAD_BYTES) return NOT_A_HEAD;
        uint32_t there = bytes.length - 5 < length ? bytes.length - 5 : length;
        if (have + there > sizeof joined) return NOT_A_HEAD;
        memcpy(joined + have, bytes.data + 5, there);
        have += there;
        if (have && joined[0] != 1) return NOT_A_HEAD; /* client_hello */
        if (have >= 4) {
            uint32_t wanted = be32(joined) & 0xffffff;
            if (wanted > HEAD_BYTES) return NOT_A_HEAD;
            if (have - 4 >= wanted) {
                client_hello(engine, (struct view){joined + 4, wanted});
                return COMPLETE;
            }
        }
        if (there < length) break;
        bytes.data += 5 + length;
        bytes.length -= 5 + length;
    }
    return all_there_is ? NOT_A_HEAD : INCOMPLETE;
}

/* ---- which of them, and waiting for the rest ---- */

static enum outcome parse(struct sg_engine *engine, struct view bytes, bool all_there_is) {
    if (bytes.data[0] == 22) return bytes.length > 1 && bytes.data[1] != 3 ? NOT_A_HEAD : tls(engine, bytes, all_there_is);
    uint32_t letters = 0;
    while (letters < bytes.length && letters <= METHOD_BYTES && bytes.data[letters] >= 'A' && bytes.data[letters] <= 'Z')
        letters++;
    if (letters > METHOD_BYTES || (letters < bytes.length && (letters < 3 || bytes.data[letters] != ' ')))
        return NOT_A_HEAD;
    return http(engine, bytes, all_there_is);
}

void heads_free(struct sg_engine *engine, struct flow *flow) {
    if (flow->head) release(engine, flow->head, sizeof *flow->head + flow->head->room);
    flow->head = NULL;
}

static bool room(struct sg_engine *engine, struct flow *flow, uint32_t wanted) {
    uint32_t have = flow->head ? flow->head->room : 0, length = flow->head ? flow->head->length : 0;
    if (wanted <= have) return true;
    uint32_t size = have ? have : 2048;
    while (size < wanted) size *= 2;
    struct head *larger = hold(engine, sizeof *larger + size);
    if (!larger) return false;
    larger->room = size;
    larger->length = length;
    if (flow->head) memcpy(larger->data, flow->head->data, length);
    heads_free(engine, flow);
    flow->head = larger;
    return true;
}

void heads_bytes(struct sg_engine *engine, const uint8_t *data, uint32_t length) {
    struct flow *flow = engine->unit.flow;
    if (!length) return;
    uint32_t have = flow->head ? flow->head->length : 0;
    /* A head begins where a segment does: where else a request of a kept connection begins is not looked for. */
    if (!have && parse(engine, (struct view){data, length}, length >= HEAD_BYTES) != INCOMPLETE) return;
    uint32_t more = length < HEAD_BYTES - have ? length : HEAD_BYTES - have;
    if (!room(engine, flow, have + more)) {
        heads_free(engine, flow);
        return;
    }
    memcpy(flow->head->data + have, data, more);
    flow->head->length = have + more;
    if (!have) return;
    bool full = flow->head->length == HEAD_BYTES;
    if (parse(engine, (struct view){flow->head->data, flow->head->length}, full) != INCOMPLETE) heads_free(engine, flow);
}

/* ---- DNS over UDP ---- */

void heads_datagram(struct sg_engine *engine, const uint8_t *data, uint32_t length) {
    uint8_t name[NAME_BYTES];
    uint32_t at = 12, used = 0;
    if (length < at + 5 || data[2] & 0x80 || !be16(data + 4)) return; /* a question, not an answer */
    while (at < length && data[at]) {
        uint32_t label = data[at++];
        if (label > 63 || at + label > length || used + label + 1 > sizeof name) return;
        if (used) name[used++] = '.';
        for (uint32_t i = 0; i < label; i++) name[used++] = lower(data[at + i]);
        at += label;
    }
    if (at >= length) return;
    if (!engine->unit.flow->layer) engine->unit.flow->layer = SG_DNS;
    scan_head(engine, SG_BUF_DNS_QUERY, (struct view){name, used});
    rules_pending(engine);
}
