/**
 * The interfaces between the stack and the world: what it needs, what it tells, what it offers.
 *
 * The stack is a pure function of packets and time. Six invariants hold (and are tested):
 * 1. Mutators only mutate: `accept refuse forget consume commit write shutdown abort send …` change
 *    state and put the flow on the dirty list. They emit no packet and call no handler.
 * 2. Events leave only from `input`, `endBatch` and expired timers, after the flow's own update.
 * 3. Packets leave only from `flush`.
 * 4. A view is valid until `onReadable`/`onBatchEnd` of its handler returns; memory passed to `send` until the next
 *    flush and device write. Nothing is kept by reference beyond.
 * 5. Hostile bytes never throw: a packet that cannot be used increments one named counter.
 * 6. Pages that were handed to a handler are released in `endBatch`, not before.
 */

import type { Endpoint } from "./wire/address.ts";
import type { IpHeader } from "./wire/ip.ts";

/** One memory per worker. Every offset is an int32 into `bytes`. */
export interface StackMemory {
  readonly bytes: Uint8Array;
  /** The page region is [pagesStart, pagesEnd), 64 KiB aligned. */
  readonly pagesStart: number;
  readonly pagesEnd: number;
  /** Pages in [start, end) hold nothing any more. Host: MADV_DONTNEED. Tests: nothing. */
  released(start: number, end: number): void;
}

/** Flags of an input packet, as virtio_net_hdr has them (include/uapi/linux/virtio_net.h). */
export const PacketFlag = { NEEDS_CSUM: 1, DATA_VALID: 2 } as const;

/** gso_type values of virtio_net_hdr. */
export const GsoType = { NONE: 0, TCPV4: 1, UDP: 3, TCPV6: 4, UDP_L4: 5, ECN: 0x80 } as const;

/** What the device completes for us. Without `checksum` the stack writes and verifies whole checksums. */
export interface DeviceOffload {
  readonly checksum: boolean;
  readonly tso4: boolean;
  readonly tso6: boolean;
  readonly uso4: boolean;
  readonly uso6: boolean;
}

/** Who says how many octets may be in flight: CUBIC (RFC 9438) or NewReno (RFC 5681). */
export type CongestionName = "cubic" | "newreno";

export interface StackOptions {
  /** MTU of the device, 1280..65535; below 1280 IPv6 is not served (RFC 8200 §5). */
  readonly mtu: number;
  readonly offload: DeviceOffload;
  /** Four words keying ISNs (RFC 6528), the flow hash and IP identification. */
  readonly secret: Uint32Array;
  /** Our own addresses, port ignored: they answer echo under `icmp: "own"`. */
  readonly ownAddresses: readonly Endpoint[];
  /** "own": echo to our own addresses only. "reply": to every address. "off": never. Errors are no echo. */
  readonly icmp: "own" | "reply" | "off";
  /** Idle life of a UDP flow, ms (RFC 4787 REQ-5: at least 2 minutes, 5 by default). */
  readonly udpTimeout: number;
  /** Silence of the client after which an established flow, and one that is half closed, ends; ms, at most a day. */
  readonly tcpIdle?: number;
  readonly tcpHalfClosed?: number;
  /** Silence after which an established client is asked whether it is there, ms; 0 (default): never (RFC 9293 §3.8.4). */
  readonly tcpKeepAlive?: number;
  /** Octets of pages that all flows together may hold, 256 MiB by default; the page region bounds it too. */
  readonly memoryBudget?: number;
  /** "cubic" by default. */
  readonly congestion?: CongestionName;
  /** Bounds. Defaults in stack.ts. */
  readonly maxTcpFlows?: number;
  readonly maxUdpFlows?: number;
  readonly maxPending?: number;
  readonly maxPendingPerSource?: number;
  /** SYN-ACKs that no client has acknowledged. */
  readonly maxHalfOpen?: number;
  readonly maxTimeWait?: number;
  readonly maxFragmentOctets?: number;
  /** The other stacks of the same device. Budget and bounds above are then of all together, tables apart: a share each. */
  readonly neighbours?: Neighbours;
}

/**
 * The stacks of a device with several queues, seen from one of them. The kernel puts a packet into the queue that last
 * wrote one of its flow, else into any; a flow is where it began. So what a stack has no flow for may be another's.
 */
export interface Neighbours {
  /** Stacks in all, this one too. */
  readonly count: number;
  /**
   * Whose the flow of these two ends is; nobody's becomes ours. Of a UDP flow the client alone says it, and `dst` is
   * unspecified. A number of another stack, or {@link Owner}.OURS: `release` has to follow once.
   */
  claim(src: Endpoint, dst: Endpoint): number;
  /** The same of a flow that we do not have, leaving it: Owner.NOBODY if no other stack has it. */
  find(src: Endpoint, dst: Endpoint): number;
  /** A flow that we claimed is no more. */
  release(src: Endpoint, dst: Endpoint): void;
  /** Who puts the datagram of this fragment together: the same for all of its fragments. */
  ownerOfFragment(ip: IpHeader): number;
  /**
   * Copies a packet for stack `owner`, which takes it as one from its own queue; `ip` may be a reassembled one, flags and
   * size as Stack.input has them. False: there is no room, the packet is lost.
   */
  handOver(owner: number, ip: IpHeader, flags: number, gsoSize: number): boolean;
}

/** What {@link Neighbours} say besides the number of another stack. */
export const Owner = { OURS: -1, NOBODY: -2 } as const;

/**
 * How a pending open or a datagram is refused. docs/refusals.md says what a program sees.
 * TCP: every ICMP is followed in the same batch by an RST.
 */
export type RefuseReason =
  | "reset" // TCP: RST. UDP: port unreachable
  | "net-unreachable" // v4 3/0, v6 1/0
  | "host-unreachable" // v4 3/1, v6 1/3
  | "prohibited" // v4 3/13, v6 1/1
  | "ttl-exceeded" // v4 11/0, v6 3/0
  | "port-unreachable"; // v4 3/3, v6 1/4

/** What a SYN-ACK offers instead of our own choice; an option counts only where the SYN had it too. */
export interface SynAckProfile {
  /** 0: no option (RFC 9293 §3.7.1: the client then assumes 536, or 1220 over IPv6). */
  readonly mss: number;
  /** Shift of our windows, 0..14; -1: no option, and no scaling either way (RFC 7323 §2.2). */
  readonly windowScale: number;
  readonly sackPermitted: boolean;
  readonly timestamps: boolean;
}

/** Why a connection ended. */
export type CloseReason =
  | "closed" // both directions ended by FIN
  | "reset" // RST from the client
  | "refused-by-client" // ICMP error or RST while the open was pending
  | "replaced" // a SYN with another ISN replaced the pending open
  | "evicted" // pending bound reached; or the table is full
  | "timeout"; // retransmission limit, idle limit

export interface TcpConnection {
  readonly client: Endpoint;
  readonly target: Endpoint;
  /** The relay's own state of this flow, to spare it a map. */
  handler: TcpHandler | null;
  /** Less than a segment waits while octets are in flight (RFC 9293 §3.7.4). False, since a relay must not add delay. */
  nagle: boolean;

  /** Answers the SYN: SYN-ACK at the next flush. Valid once, while pending. `profile`: of a server to imitate. */
  accept(profile?: SynAckProfile): void;
  /** Ends a pending open with RST or ICMP + RST. No event follows. */
  refuse(reason: RefuseReason): void;
  /** Leaves the SYN unanswered and absorbs its duplicates until they stop (the dial timed out). No event follows. */
  forget(): void;

  // client → upstream
  /**
   * Fills `rows` with [offset, length] pairs of octets received in order and not yet consumed (first what
   * is held in pages, then this batch's packets). Returns the number of rows; at most rows.length / 2.
   * Views are valid until `onReadable` returns when called from there, else until the caller returns.
   */
  readable(rows: Int32Array): number;
  /** Octets delivered upstream; opens the window. What `onReadable` leaves unconsumed the stack copies into pages. */
  consume(octets: number): void;
  /** Octets received and not yet consumed. */
  readonly readableOctets: number;

  // upstream → client
  /**
   * Fills `rows` with [offset, length] pairs that a recvmsg may fill in order; their sum is a multiple of the
   * GSO payload where room allows. Returns the number of rows; 0: no room, wait for `onWritable`. Reserves nothing:
   * `commit` must follow before any other call of this stack's mutators or events.
   */
  space(rows: Int32Array): number;
  /** `octets` of the rows given by the last `space` were filled. 0 is allowed. */
  commit(octets: number): void;
  /** Copies octets in (layered upstreams). Returns octets taken; fewer than given: wait for `onWritable`. */
  write(bytes: Uint8Array, start: number, end: number): number;
  /** FIN after everything committed. */
  shutdown(): void;
  /** RST at the next flush; everything is dropped. No event follows. */
  abort(): void;
  /** RST after all committed octets are acknowledged, or after 10 s. `onClosed` follows. */
  resetWhenDrained(): void;
}

export interface TcpHandler {
  /** New octets in order wait: see {@link TcpConnection.readable}. At most once per batch and flow. */
  onReadable(): void;
  /** The client's FIN is in order (octets may still wait to be consumed). */
  onFin(): void;
  /** `space`/`write` failed before and there is room again. */
  onWritable(): void;
  /** The last call. Not made after refuse, forget or abort. */
  onClosed(reason: CloseReason): void;
}

/** A client endpoint (address and port); endpoint-independent mapping (RFC 4787 REQ-1). */
export interface UdpFlow {
  readonly client: Endpoint;
  handler: UdpHandler | null;
  /**
   * Queues a datagram from `from` to the client. Memory [start, end) must stay until flush and device write.
   * Datagrams of equal size from one source leave as one USO packet where the device can. False: dropped, counted.
   */
  send(from: Endpoint, start: number, end: number): boolean;
  /** ICMP error for the last datagram this flow sent to `target` (quotes ≤ 68 octets of the last 4 targets). */
  refuse(target: Endpoint, reason: RefuseReason): void;
  /** Fragmentation needed / packet too big with `mtu` for the last datagram to `target`. */
  tooBig(target: Endpoint, mtu: number): void;
  /** Idle life of this flow from now on, ms. */
  setTimeout(milliseconds: number): void;
  /** Ends the flow. No event follows. */
  close(): void;
}

export interface UdpHandler {
  /**
   * [start, end) in the memory is UDP payload; `segment` > 0: it is several datagrams of that size (the last may
   * be shorter). Valid until `onBatchEnd` returns. `target` is valid during the call.
   */
  onDatagram(target: Endpoint, start: number, end: number, segment: number): void;
  /** Once per batch and flow, after its datagrams. */
  onBatchEnd(): void;
  /** Idle or evicted. The last call. */
  onClosed(): void;
}

export interface StackListener {
  /** A SYN for a new connection. null: drop silently. */
  onTcpOpen(connection: TcpConnection): TcpHandler | null;
  /** The first datagram of a client endpoint; it follows by `onDatagram`. null: drop silently. */
  onUdpOpen(flow: UdpFlow, target: Endpoint): UdpHandler | null;
  /** Something wants a flush. May be called often; cheap. */
  onDirty(): void;
}

/** Where flush puts packets. `TxBatch` of src/tun is one; tests have their own. */
export interface PacketSink {
  /** Room for headers (≤ 256 octets), an offset into the memory; -1: the batch is full, write it and call flush again. */
  reserve(octets: number): number;
  /** A payload slice [start, end) of the memory; 0..n times per packet. */
  attach(start: number, end: number): void;
  /** Ends the packet. csumOffset -1: nothing to complete. */
  commit(gsoType: number, gsoSize: number, csumStart: number, csumOffset: number): void;
}

/** Largest number of slices `attach` may be called per packet. */
export const MAX_SLICES = 32;
