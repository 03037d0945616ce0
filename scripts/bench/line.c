// A line between two network namespaces: each gets a TUN device named "line", and what goes into one comes out
// of the other after a delay, unless it is lost.
//
//   relay NAMESPACE_A NAMESPACE_B DELAY_MS LOSS_PPM
//
// Prints "ready" once both devices are there, and works until it is killed. One thread a direction, so that
// neither waits for the other; the devices vanish with the process.
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

enum { LARGEST_PACKET = 1536, ON_THE_WAY = 1 << 16 };

struct packet {
    uint64_t due_ns;
    uint16_t length;
    uint8_t bytes[LARGEST_PACKET];
};

struct direction {
    int from, to;
    uint64_t delay_ns, random;
    uint32_t loss_ppm;
    // A ring: packets [first, last) are on their way, in the order in which they are due.
    struct packet *ring;
    uint64_t first, last;
};

static uint64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

// splitmix64: the same losses in every run, as far as the packets are the same.
static uint32_t chance_ppm(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (uint32_t)((z ^ (z >> 31)) % 1000000);
}

static int open_device(const char *name_space) {
    char path[300];
    snprintf(path, sizeof path, "/var/run/netns/%s", name_space);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    if (space < 0 || setns(space, CLONE_NEWNET) != 0) err(1, "%s", path);
    close(space);
    int device = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC);
    struct ifreq wish = {.ifr_name = "line", .ifr_flags = IFF_TUN | IFF_NO_PI};
    if (device < 0 || ioctl(device, TUNSETIFF, &wish) != 0) err(1, "a TUN device in %s", name_space);
    return device;
}

// Takes in what has been sent, as far as there is room; what finds none is lost, as in a router.
static void take_in(struct direction *line) {
    while (line->last - line->first < ON_THE_WAY) {
        struct packet *packet = &line->ring[line->last % ON_THE_WAY];
        ssize_t length = read(line->from, packet->bytes, LARGEST_PACKET);
        if (length <= 0) return;
        if (chance_ppm(&line->random) < line->loss_ppm) continue;
        packet->length = (uint16_t)length;
        packet->due_ns = now_ns() + line->delay_ns;
        line->last++;
    }
}

// Gives out what is due; how long until the next, or a long time.
static uint64_t give_out(struct direction *line) {
    uint64_t now = now_ns();
    for (; line->first != line->last; line->first++) {
        struct packet *packet = &line->ring[line->first % ON_THE_WAY];
        if (packet->due_ns > now) return packet->due_ns - now;
        if (write(line->to, packet->bytes, packet->length) < 0 && errno == EAGAIN) return 1000000;
    }
    return 1000000000;
}

static void *carry(void *argument) {
    struct direction *line = argument;
    for (;;) {
        take_in(line);
        uint64_t wait = give_out(line);
        bool full = line->last - line->first == ON_THE_WAY;
        struct pollfd arrival = {.fd = line->from, .events = full ? 0 : POLLIN};
        struct timespec slice = {.tv_sec = (time_t)(wait / 1000000000), .tv_nsec = (long)(wait % 1000000000)};
        ppoll(&arrival, 1, &slice, NULL);
    }
    return NULL;
}

int main(int count, char **words) {
    if (count != 5) errx(2, "usage: relay NAMESPACE_A NAMESPACE_B DELAY_MS LOSS_PPM");
    int a = open_device(words[1]), b = open_device(words[2]);
    struct direction lines[2] = {{.from = a, .to = b, .random = 1}, {.from = b, .to = a, .random = 2}};
    pthread_t threads[2];
    for (int at = 0; at < 2; at++) {
        lines[at].delay_ns = strtoull(words[3], NULL, 10) * 1000000;
        lines[at].loss_ppm = (uint32_t)strtoul(words[4], NULL, 10);
        lines[at].ring = calloc(ON_THE_WAY, sizeof *lines[at].ring);
        if (!lines[at].ring || pthread_create(&threads[at], NULL, carry, &lines[at]) != 0) err(1, "no room");
    }
    puts("ready");
    fflush(stdout);
    pthread_join(threads[0], NULL);
}
