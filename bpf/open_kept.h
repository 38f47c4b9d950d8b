/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* A new flow in the modes that keep the client's address: one entry, if the backend can tell it from other flows. */
#ifndef SLUICEGATE_OPEN_KEPT_H
#define SLUICEGATE_OPEN_KEPT_H

#include "backend.h"
#include "flow.h"
#include "measure.h"

#if WITH_DNAT
/* The backend tells connections apart by the client's address and port alone: is it taken through another VIP? */
ALWAYS_INLINE bool dnat_clashes(const struct opening *o, const struct packet *p, const struct backend *backend,
                                const struct settings *settings)
{
    struct reverse *reverse = reverse_lookup(backend->address, backend->port, p->protocol, p->family);
    if (!reverse || reverse->count < 2)
        return false;
    struct client client = o->client;
    for (int i = 0; i < REVERSE_FRONTENDS; i++) {
        if (i >= reverse->count)
            break;
        if (reverse->frontends[i] == o->frontend_id)
            continue;
        client.frontend = reverse->frontends[i];
        struct flow *flow = flow_lookup(&client);
        if (flow && !state_is_closed(flow->state) &&
            !state_is_expired(flow->state, flow->last_seen, o->now, p->protocol, o->idle_timeout, settings) &&
            backend_is_at(flow->backend, flow->backend_generation, backend->address, backend->port))
            return true;
    }
    return false;
}
#endif

#if WITH_DNAT || WITH_DIRECT_RETURN
/* Modes that leave the client's address alone have one entry per flow; `state` is what is known of it already. `times`:
 * its times may be taken, because its replies come through here and its first packet was seen. */
ALWAYS_INLINE int put_flow(const struct opening *o, const struct backend *backend, u64 state, bool times)
{
    struct scratch *scratch = ctx_scratch();
    if (!scratch)
        return REASON_INTERNAL;
    scratch->flow = (struct flow){.state = state,
                                  .backend = o->backend_id,
                                  .backend_generation = backend->generation,
                                  .last_seen = o->now,
                                  .synced = o->now,
                                  .client_hop = o->client_hop,
                                  .epoch = o->epoch};
    if (times)
        scratch->flow.state |= timed_state(o->hash, &scratch->flow.timer);
    return flow_put(&o->client, &scratch->flow) ? REASON_INTERNAL : GO_ON;
}
#endif

#endif
