/**
 * One UDP ASSOCIATE of the built-in server (RFC 1928 §7): a socket for the client, one for the world.
 *
 * The client's socket is bound to the address the client connected to and takes datagrams from the client's address
 * only, from the first port that sends (or the one the request named). Datagrams with FRAG ≠ 0 are dropped, as the
 * RFC permits who does not reassemble. The outer socket serves IPv4 and IPv6 and passes on whatever arrives, with
 * its true source in the header: endpoint-independent mapping and filtering (RFC 4787 §4.1, §5), which programs that
 * talk peer to peer need. Batches go from one recvmmsg to one sendmmsg; nothing is copied or allocated but for
 * destinations given by name. Ends with the control connection, or after {@link UDP_IDLE} without a datagram.
 */

import { constants } from "node:os";
import { type Addon, DGRAM_RX_ROW, DGRAM_TX_ROW, Epoll } from "../native/binding.ts";
import type { PollHandler } from "../native/poller.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import { Endpoint } from "../stack/wire/address.ts";
import {
  AddressType,
  MAX_MESSAGE,
  readName,
  readUdpHeader,
  udpFragment,
  writeUdpHeader,
} from "./message.ts";
import type { NameHandler } from "./name-resolver.ts";
import type { ConnectionEnvironment } from "./server-environment.ts";
import { readWords, writeWords } from "./words.ts";

export interface AssociationOwner {
  /** The association cannot go on; its sockets are closed. Last call. */
  onAssociationEnd(): void;
}

/** Silence both ways that ends an association. */
export const UDP_IDLE = 600_000;
/** Datagrams of one batch. */
export const MAX_DATAGRAMS = 64;
/** Names remembered by one association, for {@link NAME_LIFE} ms. */
const MAX_NAMES = 64;
const NAME_LIFE = 30_000;
/** Rewritten destinations remembered by one association. */
const MAX_TRANSLATED = 64;
/** Datagrams that wait for their names in one association. */
const MAX_WAITING = 16;
/** Octets of the longest header of a reply: RSV, FRAG, ATYP, IPv6 address, port. */
const HEADER = 22;
/** Where received datagrams may begin in the scratch: behind the headers of replies. */
const HEADERS: number = MAX_DATAGRAMS * HEADER;
/** The least room worth a recvmmsg: one datagram of any size. */
const MIN_ROOM = 131072;

const { EAGAIN, ENOBUFS, EAFNOSUPPORT } = constants.errno;

export class ServerAssociation implements TimerHandler {
  /** BND of the reply. */
  readonly bound: Endpoint = new Endpoint();
  readonly #environment: ConnectionEnvironment;
  readonly #addon: Addon;
  readonly #owner: AssociationOwner;
  /** Port 0 until it is known. */
  readonly #client: Endpoint;
  readonly #inner: DatagramPort;
  readonly #outer: DatagramPort;
  readonly #timer = new Timer(this);
  readonly #names = new Map<string, NameEntry>();
  /** The destination of the datagram at hand, and of the last one that was judged. */
  readonly #destination = new Endpoint();
  readonly #judged = new Endpoint();
  #allowed = false;
  /** Rewritten destinations, when the server translates. */
  readonly #translated: Array<{ readonly rewritten: Endpoint; readonly original: Endpoint }> = [];
  /** The outer socket is IPv4 only: the host has no IPv6. */
  #v4Only = false;
  /** The outer socket is among those of our own. */
  #isNoted = false;
  #lastActive = 0;
  #waiting = 0;
  /** Rows to send, filled. */
  #rows = 0;
  #open = false;

  constructor(environment: ConnectionEnvironment, client: Endpoint, owner: AssociationOwner) {
    this.#environment = environment;
    this.#addon = environment.addon;
    this.#owner = owner;
    this.#client = client.clone();
    this.#client.port = 0;
    this.#inner = new DatagramPort(environment, () => this.#fromClient());
    this.#outer = new DatagramPort(environment, () => this.#fromOutside());
  }

  /**
   * Opens the sockets. `local` is the address the client connected to (its port is overwritten), `expected` DST of
   * the request: its port counts if its address is zero or the client's own; clients behind a NAT, and confused
   * ones, name others. 0 or -errno.
   */
  open(local: Int32Array, expected: Endpoint): number {
    const { timers, stats, mark, device } = this.#environment;
    if (expected.isUnspecified || expected.sameAddress(this.#client)) {
      this.#client.port = expected.port;
    }
    local[4] = 0;
    let failure = this.#inner.open(this.#addon.udpOpen(local, false, 0, ""));
    if (failure === 0) {
      failure = this.#outer.open(this.#addon.udpOpen(null, true, mark, device));
      if (failure === -EAFNOSUPPORT) {
        this.#v4Only = true;
        failure = this.#outer.open(this.#addon.udpOpen(null, false, mark, device));
      }
    }
    if (failure < 0) {
      this.#inner.close();
      this.#outer.close();
      return failure;
    }
    this.#addon.localAddress(this.#inner.fd, local);
    readWords(local, 0, this.bound);
    this.#open = true;
    stats.activeAssociations++;
    this.#lastActive = timers.now();
    timers.set(this.#timer, this.#lastActive + UDP_IDLE);
    return 0;
  }

  /** Idempotent. The owner is not told. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#environment.stats.activeAssociations--;
    this.#environment.timers.clear(this.#timer);
    this.#environment.ownSockets?.delete(this.#outer.fd);
    this.#inner.close();
    this.#outer.close();
    this.#names.clear();
  }

  /** The idle timer, re-armed lazily. */
  onTimer(): void {
    const { timers } = this.#environment;
    const deadline = this.#lastActive + UDP_IDLE;
    if (timers.now() < deadline) {
      timers.set(this.#timer, deadline);
    } else {
      this.close();
      this.#owner.onAssociationEnd();
    }
  }

  /** The address of `name` became known (or not): its datagrams leave or are dropped. */
  onName(entry: NameEntry, addresses: readonly Endpoint[]): void {
    if (!this.#open) return;
    const { memory, stats } = this.#environment;
    entry.expires = this.#environment.timers.now() + NAME_LIFE;
    entry.address = addresses.find((address) => this.#reaches(address)) ?? null;
    for (const { bytes, port } of entry.waiting) {
      const start = memory.scratchStart;
      memory.bytes.set(bytes, start);
      if (entry.address === null) stats.datagramUnresolved++;
      else if (this.#row(0, this.#destination.copy(entry.address), port, start, bytes.length)) {
        this.#rows = 1;
        this.#flush(this.#outer);
      }
    }
    this.#waiting -= entry.waiting.length;
    entry.waiting.length = 0;
  }

  // ---- client to the world -------------------------------------------------------------------------------------

  #fromClient(): void {
    const { received, stats } = this.#environment;
    const count = this.#receive(this.#inner);
    const client = this.#client;
    const from = this.#destination;
    this.#rows = 0;
    for (let i = 0, at = 0; i < count; i++, at += DGRAM_RX_ROW) {
      readWords(received, at + 2, from);
      const { port } = from;
      if (!from.sameAddress(client) || (client.port !== 0 && client.port !== port)) {
        stats.datagramForeign++;
      } else if (received[at + 7] !== 0) {
        stats.datagramTruncated++;
      } else {
        const start = received[at] as number;
        const end = start + (received[at + 1] as number);
        const step = (received[at + 8] as number) || end - start;
        let next = start;
        do {
          this.#outward(next, Math.min(next + step, end), port);
          next += step;
        } while (next < end);
      }
    }
    stats.datagramsOut += this.#flush(this.#outer);
  }

  /** One datagram [start, end) of the client, from `port`. */
  #outward(start: number, end: number, port: number): void {
    const { stats, memory } = this.#environment;
    const destination = this.#destination;
    const data = end - start < 4 ? -1 : readUdpHeader(memory.bytes, start, end, destination);
    if (data < 0 || destination.port === 0) {
      stats.datagramMalformed++;
      return;
    }
    if (udpFragment(memory.bytes, start) !== 0) {
      stats.datagramFragment++;
      return;
    }
    this.#client.port = port;
    if (this.#rows === MAX_DATAGRAMS) stats.datagramsOut += this.#flush(this.#outer);
    const isRow =
      memory.bytes[start + 3] === AddressType.NAME
        ? this.#named(start + 3, this.#rows, data, end - data)
        : this.#row(this.#rows, destination, destination.port, data, end - data);
    if (isRow) this.#rows++;
  }

  /** Fills row `index` unless the access rules refuse the destination. */
  #row(index: number, to: Endpoint, port: number, start: number, length: number): boolean {
    to.port = port;
    if (this.#environment.translate !== null) this.#translate(to);
    if (!this.#permits(to)) {
      this.#environment.stats.datagramNotAllowed++;
      return false;
    }
    fill(this.#environment.sending, index * DGRAM_TX_ROW, 0, 0, start, length, to);
    return true;
  }

  /** Rewrites `to` and remembers what it was, for the header of the replies. */
  #translate(to: Endpoint): void {
    const original = to.clone();
    this.#environment.translate?.(to);
    const known = this.#translated.findIndex(({ rewritten }) => rewritten.equals(to));
    if (known >= 0) this.#translated.splice(known, 1);
    else if (this.#translated.length >= MAX_TRANSLATED) this.#translated.shift();
    this.#translated.push({ rewritten: to.clone(), original });
  }

  #permits(to: Endpoint): boolean {
    if (!to.equals(this.#judged)) {
      this.#judged.copy(to);
      this.#allowed = this.#environment.judge(this.#client, to) === "allowed";
    }
    return this.#allowed;
  }

  #reaches(address: Endpoint): boolean {
    return (address.isV4 || !this.#v4Only) && this.#permits(address);
  }

  /** A destination by name: true if row `index` was filled, else the datagram waits or was dropped. */
  #named(addressAt: number, index: number, start: number, length: number): boolean {
    const { memory, names, stats, timers } = this.#environment;
    const name = readName(memory.bytes, addressAt) as string;
    const port = this.#destination.port;
    let entry = this.#names.get(name);
    if (entry !== undefined && !entry.pending && timers.now() < entry.expires) {
      if (entry.address === null) {
        stats.datagramUnresolved++;
        return false;
      }
      return this.#row(index, this.#destination.copy(entry.address), port, start, length);
    }
    if (this.#waiting >= MAX_WAITING) {
      stats.datagramUnresolved++;
      return false;
    }
    if (entry === undefined || !entry.pending) {
      if (this.#names.size >= MAX_NAMES) this.#names.clear();
      entry = new NameEntry(this);
      if (name === "" || !names.resolve(name, entry)) {
        stats.datagramUnresolved++;
        return false;
      }
      this.#names.set(name, entry);
    }
    this.#waiting++;
    entry.waiting.push({ bytes: memory.bytes.slice(start, start + length), port });
    return false;
  }

  // ---- the world to the client -----------------------------------------------------------------------------------

  #fromOutside(): void {
    const { received, memory, stats } = this.#environment;
    const count = this.#receive(this.#outer);
    const source = this.#destination;
    this.#rows = 0;
    for (let i = 0, at = 0; i < count; i++, at += DGRAM_RX_ROW) {
      if (this.#client.port === 0) {
        stats.datagramEarly++;
      } else if (received[at + 7] !== 0) {
        stats.datagramTruncated++;
      } else {
        // Headers of one batch stay until its last row has left.
        const head = memory.scratchStart + i * HEADER;
        readWords(received, at + 2, source);
        if (this.#translated.length > 0) this.#restore(source);
        const headEnd = writeUdpHeader(memory.bytes, head, null, source);
        this.#inward(head, headEnd - head, at);
      }
    }
    stats.datagramsIn += this.#flush(this.#inner);
  }

  /** What arrived as row `at`, with the header at `head`, to the client. */
  #inward(head: number, headLength: number, at: number): void {
    const { received, sending, stats } = this.#environment;
    const start = received[at] as number;
    const end = start + (received[at + 1] as number);
    const step = (received[at + 8] as number) || end - start;
    let next = start;
    do {
      if (this.#rows === MAX_DATAGRAMS) stats.datagramsIn += this.#flush(this.#inner);
      const length = Math.min(step, end - next);
      fill(sending, this.#rows * DGRAM_TX_ROW, head, headLength, next, length, this.#client);
      this.#rows++;
      next += step;
    } while (next < end);
  }

  /** The destination that the client knows `source` by. */
  #restore(source: Endpoint): void {
    const known = this.#translated.find(({ rewritten }) => rewritten.equals(source));
    if (known !== undefined) source.copy(known.original);
  }

  // ---- batches -----------------------------------------------------------------------------------------------------

  /** One recvmmsg into what is free of the datagram arena, or into the scratch. Nothing stays after the batch. */
  #receive(port: DatagramPort): number {
    const { memory, received, timers } = this.#environment;
    const { datagrams } = memory;
    const roomy = datagrams.end - datagrams.next >= MIN_ROOM;
    const start = roomy ? datagrams.next : memory.scratchStart + HEADERS;
    const end = roomy ? datagrams.end : memory.scratchEnd - MAX_MESSAGE;
    const count = this.#addon.recvBatch(port.fd, received, start, end);
    if (count > 0) this.#lastActive = timers.now();
    return Math.max(count, 0);
  }

  /** Sends the rows; what the kernel refuses is dropped, as UDP may. Returns how many left. */
  #flush(port: DatagramPort): number {
    const { sending, stats } = this.#environment;
    let left = this.#rows;
    let sent = 0;
    this.#rows = 0;
    if (left === 0) return 0;
    while (left > 0) {
      const result = this.#addon.sendBatch(port.fd, sending, left);
      if (result > 0) sent += result;
      else stats.datagramUnsent++;
      if (result === left) break;
      if (result === -EAGAIN || result === -ENOBUFS) {
        stats.datagramUnsent += left - 1;
        break;
      }
      // The first of the rest is at fault: the next call says so, and then it is skipped.
      const done = result > 0 ? result : 1;
      sending.copyWithin(0, done * DGRAM_TX_ROW, left * DGRAM_TX_ROW);
      left -= done;
    }
    // Its port is known from the first datagram on.
    if (port === this.#outer && !this.#isNoted) {
      this.#isNoted = true;
      this.#environment.ownSockets?.addDatagrams(port.fd);
    }
    return sent;
  }
}

/** A name that an association was asked to send to. */
class NameEntry implements NameHandler {
  pending = true;
  address: Endpoint | null = null;
  expires = 0;
  readonly waiting: Array<{ readonly bytes: Uint8Array; readonly port: number }> = [];
  readonly #association: ServerAssociation;

  constructor(association: ServerAssociation) {
    this.#association = association;
  }

  onAddresses(addresses: readonly Endpoint[]): void {
    this.pending = false;
    this.#association.onName(this, addresses);
  }
}

/** A watched UDP socket. */
class DatagramPort implements PollHandler {
  fd = -1;
  readonly #environment: ConnectionEnvironment;
  readonly #onReadable: () => void;
  #pollId = -1;

  constructor(environment: ConnectionEnvironment, onReadable: () => void) {
    this.#environment = environment;
    this.#onReadable = onReadable;
  }

  /** Takes `fd` over, if it is one, and watches it. 0 or -errno. */
  open(fd: number): number {
    if (fd < 0) return fd;
    this.fd = fd;
    const id = this.#environment.poller.add(fd, this, Epoll.IN);
    if (id < 0) return id;
    this.#pollId = id;
    return 0;
  }

  onPoll(_bits: number): void {
    this.#onReadable();
  }

  close(): void {
    if (this.fd < 0) return;
    if (this.#pollId >= 0) this.#environment.poller.remove(this.#pollId, this.fd);
    this.#environment.addon.close(this.fd);
    this.fd = -1;
    this.#pollId = -1;
  }
}

/** A row as DGRAM_TX_ROW describes it. */
function fill(
  rows: Int32Array,
  at: number,
  head: number,
  headLength: number,
  start: number,
  length: number,
  to: Endpoint,
): void {
  rows[at] = head;
  rows[at + 1] = headLength;
  rows[at + 2] = start;
  rows[at + 3] = length;
  writeWords(rows, to, at + 4);
  rows[at + 9] = 0;
}
