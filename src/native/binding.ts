/**
 * The native addon, typed: system calls only, integers across the border.
 *
 * The addon never learns TCP, SOCKS or DNS. One memory per worker (a reserved mapping) is shared by
 * the TUN reader, the sockets and the stack; every offset below is an int32 into it. Functions on the
 * data path return a count or `-errno` and never throw. Set-up functions throw an `Error` with
 * `errno` (positive number), `code` ("EPERM") and `syscall` (the step that failed, for instance
 * "open /dev/net/tun" or "ioctl TUNSETIFF").
 *
 * All state (mapping, descriptors, epoll, callbacks) belongs to one environment (main thread or
 * worker) and is released when that environment ends, by an environment clean-up hook.
 */

import { createRequire } from "node:module";
import { TunnelError } from "../errors.ts";

/** An error thrown by a set-up function of the addon. */
export interface NativeError extends Error {
  readonly errno: number;
  readonly code: string;
  readonly syscall: string;
}

/** TUN_F_* bits as TUNSETOFFLOAD takes them (include/uapi/linux/if_tun.h). */
export const Offload = {
  CSUM: 0x01,
  TSO4: 0x02,
  TSO6: 0x04,
  TSO_ECN: 0x08,
  USO4: 0x20,
  USO6: 0x40,
} as const;

/** epoll event bits (include/uapi/linux/eventpoll.h). */
export const Epoll = { IN: 0x001, OUT: 0x004, ERR: 0x008, HUP: 0x010, RDHUP: 0x2000 } as const;

/**
 * Row of a received packet: six int32. `flags`: bit 0 NEEDS_CSUM, bit 1 DATA_VALID (virtio_net_hdr),
 * bits 8.. gso_type. `csumStart` and `csumOffset` are relative to the packet's first octet.
 */
export const RX_ROW = 6;

/**
 * A packet to send is a variable run of int32, packets one after another:
 * `[headerOffset, headerLength, gsoType, gsoSize, csumStart, csumOffset, slices, (offset, length) × slices]`.
 * csumOffset < 0: no checksum to complete. gsoType 0: no segmentation. The addon builds the
 * virtio_net_hdr (hdr_len = headerLength) and writes header and slices with one writev(2).
 */
export const TX_HEAD = 7;

/**
 * Row of a received message: `[offset, length, w0, w1, w2, w3, port, truncated, segment]`. Address as v4-mapped words.
 * segment > 0: it is several datagrams of that size, the last may be shorter (UDP_GRO).
 */
export const DGRAM_RX_ROW = 9;

/** Octets of the range that {@link Addon.recvBatch} needs per message; only the touched pages cost memory. */
export const DGRAM_SLOT: number = 2048 + 65_536 + 1088;

/**
 * Row of a datagram to send: `[headOffset, headLength, offset, length, w0, w1, w2, w3, port, alone]`.
 * headLength may be 0. port 0: the socket's connected peer. alone 1: never part of a message that the kernel cuts.
 */
export const DGRAM_TX_ROW = 10;

export interface TunInfo {
  readonly fd: number;
  /** The name the kernel gave. */
  readonly name: string;
  /** False: the device was there before. */
  readonly created: boolean;
  readonly vnetHeader: boolean;
  readonly multiQueue: boolean;
  /** Accepted {@link Offload} bits, 0 for none. */
  readonly offload: number;
  readonly mtu: number;
}

export interface TunOpenOptions {
  /** Path of a network namespace (/run/netns/x, /proc/PID/ns/net) to open the device in. */
  readonly netns?: string;
  /** Ask for IFF_MULTI_QUEUE. An existing device of the other kind is retried with its own kind. */
  readonly multiQueue?: boolean;
  /** Ask for IFF_VNET_HDR (default true). */
  readonly vnetHeader?: boolean;
  /** Upper bound of the offloads to probe for; default all. */
  readonly offload?: number;
  /** Device node, "/dev/net/tun" by default. */
  readonly device?: string;
}

export interface TunConfigureOptions {
  readonly netns?: string;
  readonly mtu?: number;
  /** Minimum; a larger one stays. */
  readonly txQueueLength?: number;
  /** Text form and prefix length. */
  readonly ipv4?: string;
  readonly ipv4Prefix?: number;
  readonly ipv6?: string;
  readonly ipv6Prefix?: number;
  readonly up?: boolean;
  /** Add default routes through the device for the families that have an address. */
  readonly defaultRoute?: boolean;
}

/** What {@link Addon.spawn} sets up; all strings are copied before the clone. */
export interface SpawnOptions {
  /** Name of the TUN device inside. */
  readonly tunName: string;
  readonly mtu: number;
  /** Instead of `mtu` where the kernel refuses TSO; default: the same. */
  readonly mtuWithoutTso?: number;
  readonly txQueueLength: number;
  readonly ipv4: string;
  readonly ipv4Prefix: number;
  readonly ipv6: string;
  readonly ipv6Prefix: number;
  /** Upper bound of the offloads to probe for. */
  readonly offload: number;
  readonly vnetHeader: boolean;
  /** Queues of the device, 1 to 16. */
  readonly queues: number;
  /** Device node, "/dev/net/tun" unless a test has a copy with other permissions. */
  readonly device: string;
  /** Files bound over existing ones inside: path → content. */
  readonly files: ReadonlyArray<{ readonly path: string; readonly content: string }>;
  /** Paths (directories or sockets' directories) over which an empty directory is mounted, if present. */
  readonly hide: readonly string[];
  /** argv; argv[0] is searched in PATH of `env` as execvp does. */
  readonly command: readonly string[];
  /** "NAME=value" strings. */
  readonly env: readonly string[];
  /** Soft RLIMIT_NOFILE of the command (Node raises its own; the command gets the invoker's). */
  readonly nofileSoft: number;
}

export interface Spawned {
  /** pid, in our namespace, of the supervisor, which is pid 1 inside. */
  readonly pid: number;
  readonly tun: TunInfo;
  /** The descriptors of all queues; the first is that of `tun`. */
  readonly queues: readonly number[];
  /** Steps that were refused but are not fatal (for instance "mount /proc"), as "step: ERRNO". */
  readonly warnings: readonly string[];
}

/** How the command ended: exit status, or the signal that killed it; or why it could not be run. */
export interface SpawnExit {
  /** 0..255, or -1. */
  readonly status: number;
  /** Signal number, or 0. */
  readonly signal: number;
  /** errno of execve, or 0. ENOENT and EACCES become 127 and 126. */
  readonly execErrno: number;
  /** errno of what comes before execve (fork, mostly), or 0: no fault of the command. */
  readonly startErrno: number;
}

export type Handle = { readonly __handle: unique symbol };

export interface Addon {
  // ---- memory ----------------------------------------------------------------------------------
  /**
   * Maps `octets` (MAP_NORESERVE, zero-filled on touch) once per environment and makes it the memory
   * that every offset refers to. Throws if the mapping is refused, or on a second call.
   */
  reserve(octets: number): ArrayBuffer;
  /** MADV_DONTNEED on whole pages inside [start, end). */
  release(start: number, end: number): void;
  /** Resident octets of the mapping (mincore), for tests and stats. */
  resident(): number;

  // ---- TUN -------------------------------------------------------------------------------------
  /** Opens or creates a TUN device with IFF_NO_PI and probes the offload chain. */
  tunOpen(name: string, options?: TunOpenOptions): TunInfo;
  /** Addresses, MTU, queue length, up, routes, by ioctls. Steps already true are not repeated. */
  tunConfigure(name: string, options: TunConfigureOptions): void;
  /** Current MTU, by name, in this namespace or another. */
  tunMtu(name: string, netns?: string): number;
  /** Queues of the device that any process has attached; 1 for a device that can have no more. */
  tunQueues(name: string, netns?: string): number;
  /** Gives up a descriptor of `tunOpen`, which another environment of this process takes by `tunAdopt`. */
  tunDisown(fd: number): void;
  tunAdopt(fd: number): void;
  /**
   * Watches `fd`; at each wake-up reads until EAGAIN, up to 64 packets (rows.length / RX_ROW at most)
   * into [rxStart, rxEnd), stops when less than 66 KiB is left, and calls `onBatch(count)` once
   * (count > 0, or -errno when the device failed for good). Level-triggered: what is left comes at
   * the next loop iteration. The kernel's 10-octet virtio_net_hdr never reaches JS.
   */
  tunStart(
    fd: number,
    vnetHeader: boolean,
    rxStart: number,
    rxEnd: number,
    rows: Int32Array,
    onBatch: (count: number) => void,
  ): Handle;
  /** Stops watching and closes the descriptor. Idempotent. */
  tunStop(handle: Handle): void;
  /** Writes `packets` packets laid out as {@link TX_HEAD} says. Returns how many the kernel took; the rest were refused one by one (EINVAL, EIO, EAGAIN) and are gone. */
  tunWrite(handle: Handle, rows: Int32Array, packets: number): number;
  /** The same for a TUN descriptor that is not watched (tests). Reads at most one batch. */
  tunRead(handle: Handle): number;

  // ---- readiness: one epoll behind one uv_poll per environment ----------------------------------
  /**
   * Starts the poll. At each wake-up `events` holds `[id, bits]` pairs and `onEvents(count)` is called
   * once. Level-triggered. The poll keeps the loop alive while any descriptor is watched.
   */
  pollStart(events: Int32Array, onEvents: (count: number) => void): void;
  pollAdd(fd: number, id: number, bits: number): number;
  pollModify(fd: number, id: number, bits: number): number;
  pollRemove(fd: number): number;
  /** Stops and closes the epoll. Watched descriptors stay open. */
  pollStop(): void;

  // ---- sockets: descriptors or -errno -----------------------------------------------------------
  /**
   * Non-blocking connect to the v4-mapped words and port in `address` (five int32: w0..w3, port).
   * Sets TCP_NODELAY; `mark` != 0 SO_MARK; `device` != "" SO_BINDTODEVICE; `userTimeout` > 0
   * TCP_USER_TIMEOUT in ms. `source` (five int32 of the same family): bound to, and with port 0 the port is chosen by
   * connect(2), towards this peer alone (IP_BIND_ADDRESS_NO_PORT). A descriptor of
   * `limit` or more is -EMFILE. Returns the descriptor (connected or in progress) or -errno.
   */
  tcpConnect(
    address: Int32Array,
    mark: number,
    device: string,
    userTimeout: number,
    source?: Int32Array | null,
    limit?: number,
  ): number;
  /** SO_REUSEADDR, IPV6_V6ONLY off for "::". Returns descriptor or -errno. */
  tcpListen(address: Int32Array, backlog: number): number;
  /** Non-blocking accept4; the peer goes to `address` (may be null). TCP_NODELAY is set. */
  tcpAccept(fd: number, address: Int32Array | null): number;
  /** SO_ERROR: 0 or errno, cleared by reading it. */
  socketError(fd: number): number;
  /** getsockname / getpeername into five int32. 0 or -errno. */
  localAddress(fd: number, address: Int32Array): number;
  peerAddress(fd: number, address: Int32Array): number;
  /**
   * The addresses of all interfaces of this host into rows of five int32 (as `localAddress`), port 0. How many there
   * are, which may be more than there is room for; or -errno.
   */
  hostAddresses(rows: Int32Array): number;
  /** readv of `count` [offset, length] rows. Octets, 0 at end of stream, -errno. */
  recv(fd: number, rows: Int32Array, count: number): number;
  /** sendmsg(MSG_NOSIGNAL) of `count` rows. Octets or -errno. */
  send(fd: number, rows: Int32Array, count: number): number;
  /** shutdown(SHUT_WR). */
  shutdown(fd: number): number;
  /** close(2) of a descriptor of this addon, others are left alone; drops epoll membership by itself. */
  close(fd: number): void;
  /** SO_LINGER {1, 0}, then close: the peer sees RST. */
  reset(fd: number): void;
  /** SO_KEEPALIVE: after `idle` seconds of silence, `count` probes, `interval` seconds apart. 0 or -errno. */
  keepAlive(fd: number, idle: number, interval: number, count: number): number;
  /**
   * Sets TCP_USER_TIMEOUT to `milliseconds`, or to none while octets wait for nothing but the peer's window.
   * 1: octets are outstanding, 0: none, or -errno.
   */
  userTimeout(fd: number, milliseconds: number): number;
  /** Octets in the send queue that the peer has not acknowledged (SIOCOUTQ), or -errno. */
  outstanding(fd: number): number;
  /**
   * A UDP socket, bound when `bind` is given (five int32), of family AF_INET for v4-mapped words and
   * AF_INET6 otherwise; `ipv6` says which when `bind` is null. Receive and send buffers are raised to 4 MiB where allowed.
   */
  udpOpen(bind: Int32Array | null, ipv6: boolean, mark: number, device: string): number;
  /** connect(2) of a datagram socket: replies from others are dropped, ICMP errors reported. */
  udpConnect(fd: number, address: Int32Array): number;
  /**
   * recvmmsg of up to 64 messages into [start, end), one per {@link DGRAM_SLOT} octets, so that none is
   * cut short (a smaller range is one slot); rows as {@link DGRAM_RX_ROW}. Those of up to 2 KiB lie side by side from
   * `start` on, larger ones behind all of them. Count or -errno.
   */
  recvBatch(fd: number, rows: Int32Array, start: number, end: number): number;
  /**
   * sendmmsg of `count` rows as {@link DGRAM_TX_ROW}; neighbours of one size to one address are one message (UDP_SEGMENT)
   * where the path takes them. Datagrams taken, or -errno if not even the first was.
   */
  sendBatch(fd: number, rows: Int32Array, count: number): number;

  // ---- processes -------------------------------------------------------------------------------
  /**
   * Clones the supervisor into new network, mount and pid namespaces (and a user namespace without
   * CAP_SYS_ADMIN), waits at most 10 s until its TUN is up and its descriptor has arrived, and returns.
   * The command does not run before {@link Addon.spawnGo}. One per environment at a time.
   */
  spawn(options: SpawnOptions): Spawned;
  /** Lets the command start; `onExit` is called once, when it and the supervisor have ended. */
  spawnGo(onExit: (exit: SpawnExit) => void): void;
  /** Sends a signal to the command (not to the supervisor). 0 or -errno. */
  spawnSignal(signal: number): number;
  /** Ends the supervisor and with it every process inside. Idempotent. */
  spawnKill(): void;
  /**
   * Soft RLIMIT_NOFILE of whoever started us (Node raises its own at start: the parent's is read from
   * /proc/PPID/limits, else 1024), and our own hard limit.
   */
  nofile(): { readonly soft: number; readonly hard: number };
  /** _exit(2): ends the process without waiting for a thread that is in getaddrinfo(3), as process.exit() would. */
  exitNow(status: number): never;
  /** Overwrites the value of an environment variable where the kernel shows it (/proc/PID/environ), and unsets it. */
  eraseVariable(name: string): void;
}

let loaded: Addon | undefined;

/**
 * Loads the addon once.
 *
 * @throws TunnelError ERR_ADDON_MISSING with the remedy, if it is not built.
 */
export function addon(): Addon {
  if (loaded === undefined) {
    const require = createRequire(import.meta.url);
    try {
      loaded = require("../../build/Release/tun2socks.node") as Addon;
    } catch (cause) {
      throw new TunnelError(
        "ERR_ADDON_MISSING",
        "cannot load the native addon: it is not built for this Node.js; install python3, make and g++, then run `npm rebuild`",
        { cause },
      );
    }
  }
  return loaded;
}
