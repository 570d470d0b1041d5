/*
 * Addresses and sockets, as streams (socket.c) and datagrams (datagram.c) need them.
 */
#ifndef TUN2SOCKS_SOCKET_H
#define TUN2SOCKS_SOCKET_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "addon.h"

/* int32 in an address: four v4-mapped words (most significant first) and a port, in host order. */
#define ADDRESS 5

union address {
	struct sockaddr any;
	struct sockaddr_in in;
	struct sockaddr_in6 in6;
};

/* Length of the address in the wanted family (AF_UNSPEC: what the words are), or 0 if it has none there. */
socklen_t to_address(const int32_t *words, int family, union address *address);
void from_address(const union address *address, int32_t *words);
int set_option(int fd, int level, int name, int value);
/* -errno, after closing `fd` unless that is what failed. */
napi_value failed(napi_env env, int fd);
/* A non-blocking socket with mark and device set, or -1 and errno. */
int open_socket(napi_env env, int family, int type, napi_value mark, napi_value device);

#endif
