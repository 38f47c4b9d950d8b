/* SPDX-License-Identifier: (Apache-2.0 OR GPL-2.0-only) */
/* Counting what arrived. */
#ifndef BENCH_FORWARD_H
#define BENCH_FORWARD_H

#include <uapi/linux/bpf.h>

/* sinks -> user space. Index 0. */
BPF_TABLE("percpu_array", u32, u64, arrived, 1);

static __always_inline void arrive(void)
{
    u32 index = 0;
    u64 *count = arrived.lookup(&index);
    if (count)
        (*count)++;
}

#endif
