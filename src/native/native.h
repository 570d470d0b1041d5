/*
 * Shared by the addon's translation units. System calls only: nothing here knows TCP, SOCKS or DNS.
 *
 * Functions of tun_setup.c are async-signal-safe (no malloc, no stdio, no locks): the supervisor calls
 * them between clone and exec.
 */
#ifndef TUN2SOCKS_NATIVE_H
#define TUN2SOCKS_NATIVE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The step that failed and its errno; `step` is a string literal or a copy inside `text`. */
struct failure {
	int err;
	char step[96];
};

struct tun_info {
	int fd;
	char name[16];
	bool created;
	bool vnet_header;
	bool multi_queue;
	unsigned offload; /* TUN_F_* accepted */
	int mtu;
};

struct tun_request {
	const char *device; /* "/dev/net/tun" */
	const char *name;
	bool multi_queue;
	bool vnet_header;
	unsigned offload; /* upper bound to probe for */
};

struct tun_address {
	int family; /* AF_INET, AF_INET6, 0: none */
	unsigned char octets[16];
	int prefix;
};

struct tun_settings {
	int mtu;		 /* 0: leave */
	int tx_queue_length; /* minimum, 0: leave */
	struct tun_address ipv4;
	struct tun_address ipv6;
	bool up;
	bool default_route;
};

/* tun_setup.c: 0, or -1 with *failure filled. All act in the calling thread's network namespace. */
int tun_open_device(const struct tun_request *request, struct tun_info *info, struct failure *failure);
int tun_configure_device(const char *name, const struct tun_settings *settings, struct failure *failure);
int tun_set_queue_length(const char *name, int length, struct failure *failure);
/* The kernel takes and gives TCP super-segments, whatever the MTU. */
bool tun_segments(const struct tun_info *info);
/* Brings up "lo" in the calling thread's network namespace. */
int loopback_up(struct failure *failure);

/* The MTU, or -1 with *failure filled. */
int device_mtu(const char *name, struct failure *failure);

/* tun_link.c: queues that anybody has attached, 1 for a device that can have no more; or -1 with *failure filled. */
int tun_queue_count(const char *name, struct failure *failure);

void failure_set(struct failure *failure, int err, const char *step);

#endif
