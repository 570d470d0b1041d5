/**
 * One of the two UDP sockets of an association of the built-in server: its place in the poller, the batch received
 * from it and the batch to be sent to it. Rows and memory are the server's, lent for one event.
 */

import { constants } from "node:os";
import { DGRAM_TX_ROW, Epoll } from "../native/binding.ts";
import type { PollHandler } from "../native/poller.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { MAX_MESSAGE, MAX_UDP_HEADER } from "./message.ts";
import type { ConnectionEnvironment } from "./server-environment.ts";
import { writeWords } from "./words.ts";

export interface DatagramPortOwner {
  /** `port` has datagrams. */
  onPort(port: DatagramPort): void;
}

/** Datagrams of one batch. */
export const MAX_DATAGRAMS = 64;
/** Octets of the longest header of a reply: RSV, FRAG, ATYP, IPv6 address, port. */
export const REPLY_HEADER = 22;
/** Where received datagrams may begin in the scratch: behind the headers of replies. */
const HEADERS: number = MAX_DATAGRAMS * REPLY_HEADER;
/** At the end of the scratch: a datagram put together of fragments, then a message. */
export const WHOLE_DATAGRAM: number = MAX_MESSAGE + MAX_UDP_HEADER + 65_536;
/** The least room worth a recvmmsg: one datagram of any size. */
const MIN_ROOM = 131072;

const { EAGAIN, ENOBUFS } = constants.errno;

export class DatagramPort implements PollHandler {
  fd = -1;
  /** Rows to send. */
  rows = 0;
  readonly #environment: ConnectionEnvironment;
  readonly #owner: DatagramPortOwner;
  #pollId = -1;

  constructor(environment: ConnectionEnvironment, owner: DatagramPortOwner) {
    this.#environment = environment;
    this.#owner = owner;
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
    this.#owner.onPort(this);
  }

  /** Idempotent. */
  close(): void {
    if (this.fd < 0) return;
    if (this.#pollId >= 0) this.#environment.poller.remove(this.#pollId, this.fd);
    this.#environment.addon.close(this.fd);
    this.fd = -1;
    this.#pollId = -1;
  }

  /**
   * One recvmmsg into what is free of the datagram arena, or into the scratch; rows in `received` of the environment, how
   * many is returned. Nothing stays after the event.
   */
  receive(): number {
    const { addon, memory, received } = this.#environment;
    const { datagrams } = memory;
    const roomy = datagrams.end - datagrams.next >= MIN_ROOM;
    const start = roomy ? datagrams.next : memory.scratchStart + HEADERS;
    const end = roomy ? datagrams.end : memory.scratchEnd - WHOLE_DATAGRAM;
    return Math.max(addon.recvBatch(this.fd, received, start, end), 0);
  }

  /** Adds header and payload for `to`, where they must stay until `flush`; `rows` < {@link MAX_DATAGRAMS}. */
  add(head: number, headLength: number, start: number, length: number, to: Endpoint): void {
    const { sending } = this.#environment;
    const at = this.rows * DGRAM_TX_ROW;
    sending[at] = head;
    sending[at + 1] = headLength;
    sending[at + 2] = start;
    sending[at + 3] = length;
    writeWords(sending, to, at + 4);
    sending[at + 9] = 0;
    this.rows++;
  }

  /** Sends the rows; what the kernel refuses is dropped, as UDP may. Returns how many left. */
  flush(): number {
    const { addon, sending, stats } = this.#environment;
    let left = this.rows;
    let sent = 0;
    this.rows = 0;
    while (left > 0) {
      const result = addon.sendBatch(this.fd, sending, left);
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
    return sent;
  }
}
