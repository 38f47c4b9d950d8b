/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
#include "forward.h"

#include <uapi/linux/pkt_cls.h>

int sink_tc(struct __sk_buff *ctx)
{
    arrive();
    return TC_ACT_SHOT;
}
