/* SPDX-License-Identifier: Apache-2.0
 *
 * replay INTERFACE CAPTURE SHIFT: send the frames of a capture (pcap, nanoseconds, this machine's byte order) at the
 * times in it. SHIFT is added to the second byte of the lower of both IPv4 addresses and taken from that of the higher:
 * other flows, and all checksums stay right.
 *
 * Frames that are due go out once per millisecond, and in between this process sleeps: on a veth pair the work of the
 * receiving side is done within the call that sends, so the CPU time of this process holds it. It prints frames sent,
 * frames refused, CPU seconds, seconds taken, and the longest delay in milliseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 64, HEAD = 24, MAGIC = 0xa1b23c4d, TICK = 1000000 };

struct packet {
    uint32_t seconds, nanoseconds, length, wire_length;
};

static int64_t now(clockid_t clock)
{
    struct timespec time;

    clock_gettime(clock, &time);
    return time.tv_sec * 1000000000LL + time.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "replay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int open_socket(const char *interface)
{
    struct sockaddr_ll place = {.sll_family = AF_PACKET, .sll_ifindex = (int)if_nametoindex(interface)};
    int descriptor = socket(AF_PACKET, SOCK_RAW, 0), yes = 1, room = 8 << 20;

    if (descriptor < 0)
        fail("socket");
    if (!place.sll_ifindex || bind(descriptor, (struct sockaddr *)&place, sizeof(place)))
        fail(interface);
    setsockopt(descriptor, SOL_PACKET, PACKET_QDISC_BYPASS, &yes, sizeof(yes));
    setsockopt(descriptor, SOL_SOCKET, SO_SNDBUFFORCE, &room, sizeof(room));
    return descriptor;
}

static uint8_t *map(const char *path, size_t *size)
{
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    struct stat about;
    uint8_t *data;

    if (descriptor < 0 || fstat(descriptor, &about))
        fail(path);
    *size = (size_t)about.st_size;
    data = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_POPULATE, descriptor, 0);
    if (data == MAP_FAILED)
        fail(path);
    close(descriptor);
    return data;
}

static void move(uint8_t *frame, uint32_t length, int shift)
{
    uint8_t *source = frame + 27, *destination = frame + 31;
    int up = *source < *destination ? shift : -shift;

    if (length < 34 || frame[12] != 8 || frame[13])
        return;
    *source = (uint8_t)(*source + up);
    *destination = (uint8_t)(*destination - up);
}

/* How many of these went out. */
static unsigned int send_all(int descriptor, struct mmsghdr *messages, unsigned int count)
{
    unsigned int sent = 0;

    while (sent < count) {
        int done = sendmmsg(descriptor, messages + sent, count - sent, 0);

        if (done <= 0)
            break;
        sent += (unsigned int)done;
    }
    return sent;
}

int main(int argc, char **argv)
{
    struct mmsghdr messages[BATCH];
    struct iovec vectors[BATCH];
    int64_t started, first = -1, due, longest = 0, cpu;
    uint64_t sent = 0, refused = 0;
    unsigned int count = 0;
    size_t size, at = HEAD;
    uint8_t *data;
    int descriptor, shift;

    if (argc != 4) {
        fprintf(stderr, "usage: replay INTERFACE CAPTURE SHIFT\n");
        return 2;
    }
    shift = atoi(argv[3]);
    descriptor = open_socket(argv[1]);
    data = map(argv[2], &size);
    if (size < HEAD || *(uint32_t *)data != MAGIC) {
        fprintf(stderr, "replay: %s is no capture in nanoseconds\n", argv[2]);
        return 1;
    }
    memset(messages, 0, sizeof(messages));
    for (int index = 0; index < BATCH; index++) {
        messages[index].msg_hdr.msg_iov = &vectors[index];
        messages[index].msg_hdr.msg_iovlen = 1;
    }
    cpu = now(CLOCK_PROCESS_CPUTIME_ID);
    started = now(CLOCK_MONOTONIC);
    while (at + sizeof(struct packet) <= size) {
        struct packet packet;
        int64_t time, late;

        memcpy(&packet, data + at, sizeof(packet));
        at += sizeof(packet);
        if (packet.length > size - at)
            break;
        time = packet.seconds * 1000000000LL + packet.nanoseconds;
        if (first < 0)
            first = time;
        due = started + (time - first) / TICK * TICK;
        if (count == BATCH || (count && due > now(CLOCK_MONOTONIC))) {
            unsigned int done = send_all(descriptor, messages, count);

            sent += done;
            refused += count - done;
            count = 0;
        }
        while ((late = now(CLOCK_MONOTONIC) - due) < 0) {
            struct timespec until = {due / 1000000000LL, due % 1000000000LL};

            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
        }
        if (late > longest)
            longest = late;
        move(data + at, packet.length, shift);
        vectors[count].iov_base = data + at;
        vectors[count++].iov_len = packet.length;
        at += packet.length;
    }
    if (count) {
        unsigned int done = send_all(descriptor, messages, count);

        sent += done;
        refused += count - done;
    }
    printf("%llu %llu %.6f %.3f %.3f\n", (unsigned long long)sent, (unsigned long long)refused,
           (double)(now(CLOCK_PROCESS_CPUTIME_ID) - cpu) / 1e9, (double)(now(CLOCK_MONOTONIC) - started) / 1e9,
           (double)longest / 1e6);
    return 0;
}
