/**
 * Datagrams to and from the host's loopback: a socket of each family, opened when first needed and bound to
 * loopback, so that nobody else can reach it. Straight out they are bound as all sockets that lead out.
 */

import { constants } from "node:os";
import type { Arena, MemoryLayout } from "../memory.ts";
import { DGRAM_RX_ROW, DGRAM_SLOT, DGRAM_TX_ROW, Epoll } from "../native/binding.ts";
import type { PollHandler } from "../native/poller.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import { Endpoint } from "../stack/wire/address.ts";
import { maxDatagram } from "./datagram-size.ts";
import { loopbackRefusal } from "./loopback-refusal.ts";
import type { DirectWay, LoopbackEnvironment } from "./loopback-stream.ts";
import type { Association, AssociationHandler, Destination } from "./ports.ts";

const { EAGAIN } = constants.errno;

/** Datagrams of one system call. */
const MAX_DATAGRAMS = 64;
/** The least room worth a recvmmsg: one message of any size. */
const MIN_ROOM: number = DGRAM_SLOT;

export class LoopbackAssociation implements Association, TimerHandler {
  readonly #environment: LoopbackEnvironment;
  readonly #handler: AssociationHandler;
  readonly #opening: Timer = new Timer(this);
  readonly #sockets: [LoopbackSocket, LoopbackSocket];
  #closed = false;

  constructor(environment: LoopbackEnvironment, memory: MemoryLayout, handler: AssociationHandler) {
    this.#environment = environment;
    this.#handler = handler;
    const { out } = environment;
    const bound4 = out === undefined ? LOOPBACK_IPV4 : sourceOf(out, true);
    const bound6 = out === undefined ? LOOPBACK_IPV6 : sourceOf(out, false);
    this.#sockets = [
      new LoopbackSocket(environment, memory, handler, bound4, false),
      new LoopbackSocket(environment, memory, handler, bound6, true),
    ];
    environment.timers.set(this.#opening, environment.timers.now());
  }

  send(to: Destination, start: number, end: number, segment: number): boolean {
    const socket = this.#sockets[to.endpoint.isV4 ? 0 : 1];
    socket.queue(to.endpoint, start, end, segment);
    return true;
  }

  maxPayload(to: Destination): number {
    return maxDatagram(to.endpoint);
  }

  flush(): void {
    this.#sockets[0].flush();
    this.#sockets[1].flush();
  }

  close(): void {
    this.#closed = true;
    this.#environment.timers.clear(this.#opening);
    this.#sockets[0].close();
    this.#sockets[1].close();
  }

  onTimer(): void {
    const errno = Math.min(this.#sockets[0].open(), 0);
    if (errno === 0) this.#handler.onOpen();
    else if (!this.#closed) {
      const { out } = this.#environment;
      this.close();
      this.#handler.onRefused(loopbackRefusal(-errno, out === undefined ? undefined : "a target"));
    }
  }
}

const LOOPBACK_IPV4: Int32Array = Int32Array.of(0, 0, 0xffff, 0x7f000001, 0);
const LOOPBACK_IPV6: Int32Array = Int32Array.of(0, 0, 0, 1, 0);

/** Where datagrams of a family leave from; null: the kernel's choice. */
function sourceOf(out: DirectWay, isV4: boolean): Int32Array | null {
  const source = out.addresses.find((address) => address.isV4 === isV4);
  if (source === undefined) return null;
  return Int32Array.of(source.w0, source.w1, source.w2, source.w3, 0);
}

/** One socket, with the rows of its system calls. */
class LoopbackSocket implements PollHandler {
  readonly #environment: LoopbackEnvironment;
  readonly #memory: MemoryLayout;
  readonly #handler: AssociationHandler;
  readonly #address: Int32Array | null;
  readonly #isV6: boolean;
  readonly #from: Endpoint = new Endpoint();
  readonly #tx: Int32Array = new Int32Array(MAX_DATAGRAMS * DGRAM_TX_ROW);
  readonly #rx: Int32Array = new Int32Array(MAX_DATAGRAMS * DGRAM_RX_ROW);
  #queued = 0;
  /** Among the sockets that lead out. */
  #isNoted = false;
  #fd = -1;
  #pollId = -1;

  constructor(
    environment: LoopbackEnvironment,
    memory: MemoryLayout,
    handler: AssociationHandler,
    address: Int32Array | null,
    isV6: boolean,
  ) {
    this.#environment = environment;
    this.#memory = memory;
    this.#handler = handler;
    this.#address = address;
    this.#isV6 = isV6;
  }

  /** Opens the socket if it is not open. The descriptor or -errno. */
  open(): number {
    if (this.#fd >= 0) return this.#fd;
    const { addon, poller, out } = this.#environment;
    const fd = addon.udpOpen(this.#address, this.#isV6, out?.mark ?? 0, out?.device ?? "");
    if (fd < 0) return fd;
    this.#pollId = poller.add(fd, this, Epoll.IN);
    if (this.#pollId < 0) {
      addon.close(fd);
      return this.#pollId;
    }
    this.#fd = fd;
    return fd;
  }

  /** Sends in between what one system call cannot take. A socket that cannot be opened drops. */
  queue(to: Endpoint, start: number, end: number, segment: number): void {
    const step = segment > 0 ? segment : Math.max(1, end - start);
    const count = Math.max(1, Math.ceil((end - start) / step));
    if (this.open() < 0) return;
    for (let at = start, i = 0; i < count; i++, at += step) {
      if (this.#queued === MAX_DATAGRAMS) this.flush();
      const row = this.#queued++ * DGRAM_TX_ROW;
      const tx = this.#tx;
      tx[row + 1] = 0;
      tx[row + 2] = at;
      tx[row + 3] = Math.min(step, end - at);
      tx[row + 4] = to.w0;
      tx[row + 5] = to.w1;
      tx[row + 6] = to.w2;
      tx[row + 7] = to.w3;
      tx[row + 8] = to.port;
    }
  }

  flush(): void {
    const tx = this.#tx;
    let left = this.#queued;
    if (left === 0) return;
    while (left > 0) {
      const sent = this.#environment.addon.sendBatch(this.#fd, tx, left);
      // What a full socket does not take is lost, as datagrams may be; one that is refused costs only itself.
      if (sent === -EAGAIN) break;
      const done = Math.max(1, sent);
      left -= done;
      if (left > 0) tx.copyWithin(0, done * DGRAM_TX_ROW, (done + left) * DGRAM_TX_ROW);
    }
    this.#queued = 0;
    // Its port is known from the first datagram on.
    if (!this.#isNoted) {
      this.#isNoted = true;
      this.#environment.out?.ownSockets?.addDatagrams(this.#fd);
    }
  }

  close(): void {
    if (this.#fd < 0) return;
    this.#environment.out?.ownSockets?.delete(this.#fd);
    this.#environment.poller.remove(this.#pollId, this.#fd);
    this.#environment.addon.close(this.#fd);
    this.#fd = -1;
  }

  onPoll(): void {
    const arena: Arena = this.#memory.datagrams;
    // A full arena is empty again with the next turn, and readiness is level-triggered.
    if (arena.end - arena.next < MIN_ROOM) return;
    const rx = this.#rx;
    const count = this.#environment.addon.recvBatch(this.#fd, rx, arena.next, arena.end);
    // All are taken before the first is handed on: its handler may take from the arena too.
    for (let i = 0, row = 0; i < count; i++, row += DGRAM_RX_ROW) {
      const end = (rx[row] as number) + (rx[row + 1] as number);
      arena.next = Math.max(arena.next, (end + 7) & ~7);
    }
    for (let i = 0, row = 0; i < count && this.#fd >= 0; i++, row += DGRAM_RX_ROW) {
      const start = rx[row] as number;
      const end = start + (rx[row + 1] as number);
      const step = (rx[row + 8] as number) || end - start;
      const from = this.#from.set(
        rx[row + 2] as number,
        rx[row + 3] as number,
        rx[row + 4] as number,
        rx[row + 5] as number,
        rx[row + 6] as number,
      );
      let at = start;
      do {
        this.#handler.onDatagram(from, at, Math.min(at + step, end));
        at += step;
      } while (at < end && this.#fd >= 0);
    }
  }
}
