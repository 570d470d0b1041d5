/**
 * One UDP ASSOCIATE of the built-in server (RFC 1928 §7): a socket for the client, one for the world.
 *
 * The client's socket is bound to the address the client connected to and takes datagrams from the client's address
 * only, from the first port that sends (or the one the request named). Fragments are put together (udp-reassembly.ts)
 * and never passed on as they are. The outer socket serves IPv4 and IPv6 and passes on whatever arrives, with
 * its true source in the header: endpoint-independent mapping and filtering (RFC 4787 §4.1, §5), which programs that
 * talk peer to peer need. Batches go from one recvmmsg to one sendmmsg; nothing is copied or allocated but for
 * fragments and destinations given by name. Ends with the control connection, or after `udpIdle` without a datagram.
 */

import { constants } from "node:os";
import { DGRAM_RX_ROW } from "../native/binding.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import { Endpoint } from "../stack/wire/address.ts";
import { AddressType, readName, readUdpHeader, udpFragment, writeUdpHeader } from "./message.ts";
import type { NameHandler } from "./name-resolver.ts";
import {
  DatagramPort,
  type DatagramPortOwner,
  MAX_DATAGRAMS,
  REPLY_HEADER,
  WHOLE_DATAGRAM,
} from "./server-datagram-port.ts";
import type { ConnectionEnvironment } from "./server-environment.ts";
import { FragmentQueue } from "./udp-reassembly.ts";
import { readWords } from "./words.ts";

export interface AssociationOwner {
  /** The association cannot go on; its sockets are closed. Last call. */
  onAssociationEnd(): void;
}

/** Silence both ways that ends an association, unless told otherwise. */
export const UDP_IDLE = 600_000;
/** Names remembered by one association, for {@link NAME_LIFE} ms. */
const MAX_NAMES = 64;
const NAME_LIFE = 30_000;
/** Rewritten destinations remembered by one association. */
const MAX_TRANSLATED = 64;
/** Datagrams that wait for their names in one association. */
const MAX_WAITING = 16;

const { EAFNOSUPPORT } = constants.errno;

export class ServerAssociation implements TimerHandler, DatagramPortOwner {
  /** BND of the reply. */
  readonly bound: Endpoint = new Endpoint();
  readonly #environment: ConnectionEnvironment;
  readonly #owner: AssociationOwner;
  /** Port 0 until it is known. */
  readonly #client: Endpoint;
  readonly #inner: DatagramPort;
  readonly #outer: DatagramPort;
  readonly #timer = new Timer(this);
  readonly #names = new Map<string, NameEntry>();
  /** Null until the first fragment. */
  #fragments: FragmentQueue | null = null;
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
  #open = false;

  constructor(environment: ConnectionEnvironment, client: Endpoint, owner: AssociationOwner) {
    this.#environment = environment;
    this.#owner = owner;
    this.#client = client.clone();
    this.#client.port = 0;
    this.#inner = new DatagramPort(environment, this);
    this.#outer = new DatagramPort(environment, this);
  }

  /**
   * Opens the sockets. `local` is the address the client connected to (its port is overwritten), `expected` DST of
   * the request: its port counts if its address is zero or the client's own; clients behind a NAT, and confused
   * ones, name others. 0 or -errno.
   */
  open(local: Int32Array, expected: Endpoint): number {
    const { addon, timers, stats, mark, device, udpIdle } = this.#environment;
    if (expected.isUnspecified || expected.sameAddress(this.#client)) {
      this.#client.port = expected.port;
    }
    local[4] = 0;
    let failure = this.#inner.open(addon.udpOpen(local, false, 0, ""));
    if (failure === 0) {
      failure = this.#outer.open(addon.udpOpen(null, true, mark, device));
      if (failure === -EAFNOSUPPORT) {
        this.#v4Only = true;
        failure = this.#outer.open(addon.udpOpen(null, false, mark, device));
      }
    }
    if (failure < 0) {
      this.#inner.close();
      this.#outer.close();
      return failure;
    }
    addon.localAddress(this.#inner.fd, local);
    readWords(local, 0, this.bound);
    this.#open = true;
    stats.activeAssociations++;
    this.#lastActive = timers.now();
    timers.set(this.#timer, this.#lastActive + udpIdle);
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
    this.#fragments?.clear();
  }

  /** The idle timer, re-armed lazily. */
  onTimer(): void {
    const { timers, udpIdle } = this.#environment;
    const deadline = this.#lastActive + udpIdle;
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
    // Rules know ports: that of the first datagram speaks for all.
    const firstPort = entry.waiting[0]?.port ?? 0;
    const { memory, stats } = this.#environment;
    entry.expires = this.#environment.timers.now() + NAME_LIFE;
    entry.address = addresses.find((address) => this.#reaches(address, firstPort)) ?? null;
    for (const { bytes, port } of entry.waiting) {
      const start = memory.scratchStart;
      memory.bytes.set(bytes, start);
      if (entry.address === null) stats.datagramUnresolved++;
      else {
        this.#toOutside(this.#destination.copy(entry.address), port, start, bytes.length);
        stats.datagramsOut += this.#flushOutside();
      }
    }
    this.#waiting -= entry.waiting.length;
    entry.waiting.length = 0;
  }

  onPort(port: DatagramPort): void {
    const count = port.receive();
    if (count > 0) this.#lastActive = this.#environment.timers.now();
    if (port === this.#inner) this.#fromClient(count);
    else this.#fromOutside(count);
  }

  // ---- client to the world -------------------------------------------------------------------------------------

  #fromClient(count: number): void {
    const { received, stats } = this.#environment;
    const client = this.#client;
    const from = this.#destination;
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
    stats.datagramsOut += this.#flushOutside();
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
    this.#client.port = port;
    if (udpFragment(memory.bytes, start) !== 0) {
      this.#reassemble(start, data, end);
    } else {
      this.#fragments?.interrupt();
      this.#pass(start, data, end);
    }
  }

  /** A fragment is kept, and what it makes whole goes on. */
  #reassemble(start: number, data: number, end: number): void {
    const { memory, fragments, stats } = this.#environment;
    this.#fragments ??= new FragmentQueue(fragments);
    const length = this.#fragments.add(memory.bytes, start, data, end);
    if (length === 0) return;
    // There is room for one, and what came before it leaves before it.
    const whole = memory.scratchEnd - WHOLE_DATAGRAM;
    this.#fragments.moveTo(memory.bytes, whole);
    const wholeData = readUdpHeader(memory.bytes, whole, whole + length, this.#destination);
    this.#pass(whole, wholeData, whole + length);
    stats.datagramsOut += this.#flushOutside();
  }

  /** The datagram [start, end), whose destination has been read, goes out. */
  #pass(start: number, data: number, end: number): void {
    const { stats, memory } = this.#environment;
    const destination = this.#destination;
    if (this.#outer.rows === MAX_DATAGRAMS) stats.datagramsOut += this.#flushOutside();
    if (memory.bytes[start + 3] === AddressType.NAME) this.#named(start + 3, data, end - data);
    else this.#toOutside(destination, destination.port, data, end - data);
  }

  /** Adds a datagram to the batch unless the access rules refuse the destination. */
  #toOutside(to: Endpoint, port: number, start: number, length: number): void {
    to.port = port;
    if (this.#environment.translate !== null) this.#translate(to);
    if (this.#permits(to)) this.#outer.add(0, 0, start, length, to);
    else this.#environment.stats.datagramNotAllowed++;
  }

  #flushOutside(): number {
    const { rows, fd } = this.#outer;
    const sent = this.#outer.flush();
    // Its port is known from the first datagram on.
    if (rows > 0 && !this.#isNoted) {
      this.#isNoted = true;
      this.#environment.ownSockets?.addDatagrams(fd);
    }
    return sent;
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

  #reaches(address: Endpoint, port: number): boolean {
    const destination = this.#destination.copy(address);
    destination.port = port;
    return (address.isV4 || !this.#v4Only) && this.#permits(destination);
  }

  /** A destination by name: the datagram goes out, waits for the address, or is dropped. */
  #named(addressAt: number, start: number, length: number): void {
    const { memory, names, stats, timers } = this.#environment;
    const name = readName(memory.bytes, addressAt) as string;
    const port = this.#destination.port;
    let entry = this.#names.get(name);
    if (entry !== undefined && !entry.pending && timers.now() < entry.expires) {
      if (entry.address === null) {
        stats.datagramUnresolved++;
        return;
      }
      this.#toOutside(this.#destination.copy(entry.address), port, start, length);
      return;
    }
    if (this.#waiting >= MAX_WAITING) {
      stats.datagramUnresolved++;
      return;
    }
    if (entry === undefined || !entry.pending) {
      if (this.#names.size >= MAX_NAMES) this.#names.clear();
      entry = new NameEntry(this);
      if (name === "" || !names.resolve(name, entry, this.#client)) {
        stats.datagramUnresolved++;
        return;
      }
      this.#names.set(name, entry);
    }
    this.#waiting++;
    entry.waiting.push({ bytes: memory.bytes.slice(start, start + length), port });
  }

  // ---- the world to the client -----------------------------------------------------------------------------------

  #fromOutside(count: number): void {
    const { received, memory, stats } = this.#environment;
    const source = this.#destination;
    for (let i = 0, at = 0; i < count; i++, at += DGRAM_RX_ROW) {
      if (this.#client.port === 0) {
        stats.datagramEarly++;
      } else if (received[at + 7] !== 0) {
        stats.datagramTruncated++;
      } else {
        // Headers of one batch stay until its last row has left.
        const head = memory.scratchStart + i * REPLY_HEADER;
        readWords(received, at + 2, source);
        if (this.#translated.length > 0) this.#restore(source);
        const headEnd = writeUdpHeader(memory.bytes, head, null, source);
        this.#inward(head, headEnd - head, at);
      }
    }
    stats.datagramsIn += this.#inner.flush();
  }

  /** What arrived as row `at`, with the header at `head`, to the client. */
  #inward(head: number, headLength: number, at: number): void {
    const { received, stats } = this.#environment;
    const start = received[at] as number;
    const end = start + (received[at + 1] as number);
    const step = (received[at + 8] as number) || end - start;
    let next = start;
    do {
      if (this.#inner.rows === MAX_DATAGRAMS) stats.datagramsIn += this.#inner.flush();
      this.#inner.add(head, headLength, next, Math.min(step, end - next), this.#client);
      next += step;
    } while (next < end);
  }

  /** The destination that the client knows `source` by. */
  #restore(source: Endpoint): void {
    const known = this.#translated.find(({ rewritten }) => rewritten.equals(source));
    if (known !== undefined) source.copy(known.original);
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
