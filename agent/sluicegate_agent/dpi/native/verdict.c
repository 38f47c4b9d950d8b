/* SPDX-License-Identifier: Apache-2.0
 *
 * When a flow is decided, and what is decided about it.
 *
 *   classified, no loaded rule can still match       -> stop (by label; by reach when rules are past their bytes)
 *   encrypted and identified                         -> stop
 *   classified, cleartext, a rule can still match    -> go on scanning, up to the budget
 *   budget used up                                   -> give up classification, stop
 *   the policy has an action for the label or risk   -> that action
 *   a matched rule has an action                     -> that action (rules.c)
 */
#include "internal.h"

/* The word is one store, so the kernel sees it with its next packet. A slot may have another flow by now: its
 * generation is later, and what is said of it stays. */
void verdict_word(struct sg_engine *engine, uint64_t flow_id, uint8_t action, uint32_t seconds) {
    if (!engine->verdicts) return;
    uint64_t *word = &engine->verdicts[flow_id & engine->verdict_mask];
    uint32_t generation = (uint32_t)(flow_id >> 32), known = (uint32_t)(__atomic_load_n(word, __ATOMIC_RELAXED) >> 32);
    /* Much later is not later: it is what was left from another count. */
    if (known != generation && known - generation <= LATER_GENERATIONS) return;
    if (action != SG_DROP) seconds = 0;
    if (seconds > MAX_SECONDS) seconds = MAX_SECONDS;
    __atomic_store_n(word, (uint64_t)generation << 32 | seconds << 8 | action, __ATOMIC_RELEASE);
}

/* A verdict only grows: none, stop, drop, a longer drop. */
void verdict(struct sg_engine *engine, struct flow *flow, uint8_t action, enum sg_reason reason, uint32_t seconds) {
    if (action == SG_NONE) return;
    if (action > flow->action) {
        flow->reason = (uint8_t)reason;
        if (action == SG_DROP) engine->stats.verdicts_drop++;
        else engine->stats.verdicts_stop++;
    }
    if (action > flow->action || (action == SG_DROP && seconds > flow->drop_seconds)) {
        flow->action = action;
        flow->drop_seconds = action == SG_DROP ? seconds : 0;
        verdict_word(engine, flow->id, action, seconds);
    }
    flow->done = true;
}

static void take_label(struct sg_engine *engine, struct flow *flow, struct label label) {
    const struct sg_tables *tables = &engine->tables;
    flow->master = label.master;
    flow->app = label.app;
    flow->state = label.state;
    flow->confidence = label.confidence;
    uint8_t app = tables->app[app_index(label.master)];
    if (!app) app = tables->app[app_index(label.app)];
    if (app) flow->layer = app;
    memcpy(&flow->risk, (uint8_t *)flow->ndpi + engine->ndpi.risk_offset, sizeof flow->risk);
    uint32_t score = 0;
    for (uint64_t risk = flow->risk; risk; risk &= risk - 1) score += tables->risk_score[__builtin_ctzll(risk)];
    flow->score = score > UINT16_MAX ? UINT16_MAX : (uint16_t)score;
}

/* The text now, or kept for the end of the flow, as the table wants. */
static void texts(struct sg_engine *engine, struct flow *flow, ndpi_label *full, enum sg_kind kind, uint64_t ts_ns) {
    uint8_t now = event_wanted(engine, flow, kind), later = event_wanted(engine, flow, SG_END);
    uint32_t length = 0;
    const char *text = NULL;
    if ((now | later) & SG_WANT_TEXT) text = ndpi_text(engine, flow, full, &length);
    struct sg_event *event = event_add(engine, flow, kind, ts_ns, SG_END_NONE);
    if (event && text && now & SG_WANT_TEXT) event_text(engine, event, text, length);
    if (text && later & SG_WANT_TEXT && (flow->text = hold(engine, sizeof *flow->text + length))) {
        flow->text->length = length;
        memcpy(flow->text->data, text, length);
    }
}

/* What the label alone decides. Rules are asked only whether one of them can still match such a flow. */
static void judge(struct sg_engine *engine, struct flow *flow, const struct sg_policy *policy) {
    const struct sg_compiled *rules = engine->rules[flow->policy];
    uint32_t app = app_index(flow->app ? flow->app : flow->master), master = app_index(flow->master);
    if (policy && flow->labelled) {
        uint8_t action = policy->on_app[app] ? policy->on_app[app] : policy->on_app[master];
        verdict(engine, flow, action, SG_BY_PROTOCOL, policy->drop_seconds);
        if (policy->min_risk && flow->score >= policy->min_risk)
            verdict(engine, flow, policy->risk_action, SG_BY_RISK, policy->drop_seconds);
    }
    if (flow->done) return;
    if (flow->labelled && (engine->tables.encrypted[app] || (master && engine->tables.encrypted[master])))
        verdict(engine, flow, SG_STOP, SG_BY_ENCRYPTION, 0);
    else if (!rules || ((flow->labelled || flow->layer) && !rules->keep_for_app[flow->layer]))
        verdict(engine, flow, SG_STOP, SG_BY_LABEL, 0);
    else if (rules->reach[0] && rules->reach[1] && flow->l4_proto == PROTO_TCP &&
             flow->offset[0] >= rules->reach[0] && flow->offset[1] >= rules->reach[1])
        verdict(engine, flow, SG_STOP, SG_BY_REACH, 0);
}

void label_final(struct sg_engine *engine, struct flow *flow, struct label label, ndpi_label *full, enum sg_kind kind,
                 bool over, uint64_t ts_ns) {
    take_label(engine, flow, label);
    flow->labelled = true;
    if (kind == SG_CLASSIFIED) engine->stats.classified++;
    if (!over) judge(engine, flow, engine->policies[flow->policy]);
    texts(engine, flow, full, kind, ts_ns);
    flow->told = flow->done;
    flow_decided(engine, flow);
    /* Rules for an application that waited for a label have it now. */
    if (engine->unit.flow != flow) unit_for(engine, flow, ts_ns);
    rules_pending(engine);
}

/* Ends classification with the best guess there is; with a reason to stop, that too. */
void give_up(struct sg_engine *engine, struct flow *flow, enum sg_reason reason, uint64_t ts_ns) {
    if (reason == SG_BY_BUDGET) verdict(engine, flow, SG_STOP, reason, 0);
    if (!flow->ndpi) return;
    ndpi_label full;
    struct label label = ndpi_giveup(engine, flow, &full);
    if (reason == SG_BY_BUDGET) engine->stats.gave_up_budget++;
    if (reason == SG_BY_MEMORY) engine->stats.gave_up_memory++;
    if (!flow->action && reason != SG_BY_NOTHING) flow->reason = (uint8_t)reason;
    label_final(engine, flow, label, &full, SG_GAVE_UP, reason == SG_BY_NOTHING, ts_ns);
    unit_evaluate(engine);
}

static bool used_up(const struct flow *flow, const struct sg_policy *policy) {
    return (policy->max_packets && flow->packets[0] + flow->packets[1] >= policy->max_packets) ||
           (policy->payload_packets && flow->payload_packets >= policy->payload_packets) ||
           (policy->payload_bytes && flow->payload[0] + flow->payload[1] >= policy->payload_bytes);
}

/* After each record of a flow that was not done, and for a flow that was given up because of memory. */
void decide(struct sg_engine *engine, struct flow *flow, uint64_t ts_ns) {
    const struct sg_policy *policy = engine->policies[flow->policy];
    if (!flow->done && !flow->ndpi) judge(engine, flow, policy);
    if (!flow->done && policy && used_up(flow, policy)) give_up(engine, flow, SG_BY_BUDGET, ts_ns);
    if (!flow->done) return;
    if (flow->ndpi) give_up(engine, flow, SG_BY_NOTHING, ts_ns);
    if (!flow->told) event_add(engine, flow, SG_STOPPED, ts_ns, SG_END_NONE);
    flow->told = true;
    scan_close(engine, flow, false);
    stream_free(engine, flow);
    heads_free(engine, flow);
}
