// @ts-check
// The addon's sockets for load generators and targets, so that they are not what is measured: one mapping, one poller, a
// stream that speaks SOCKS5 first if it is told to. Addresses are IPv4.

import { writeSync } from "node:fs";
import { addon, Epoll } from "../../dist/native/binding.js";
import { Poller } from "../../dist/native/poller.js";
import { parseAddress } from "../../dist/stack/wire/address.js";

/** @typedef {{ host: string, port: number }} Place */

export const native = addon();
export const bytes = new Uint8Array(native.reserve(32 << 20));
export const view = new DataView(bytes.buffer);
export const poller = new Poller(native);
poller.start(
  () => {},
  () => {},
);

export const EAGAIN = 11;
let allocated = 0;

/** Octets of the mapping, for good. @param {number} octets */
export function allocate(octets) {
  const at = allocated;
  allocated = (at + octets + 63) & ~63;
  if (allocated > bytes.length) throw new Error("the load generator's memory is too small");
  return at;
}

/** @param {Place} place */
export function addressOf({ host, port }) {
  const address = parseAddress(host);
  if (address === null) throw new Error(`not an address: ${host}`);
  return Int32Array.of(address.w0, address.w1, address.w2, address.w3, port);
}

/** Milliseconds on a clock that all processes of this machine share (CLOCK_MONOTONIC). */
const CLOCK_BASE = Number(process.hrtime.bigint()) / 1e6 - performance.now();
export function now() {
  return CLOCK_BASE + performance.now();
}

/** IPv4 address and port as SOCKS has them after ATYP. @param {Place} place */
export function socksAddress({ host, port }) {
  return [1, ...host.split(".").map(Number), port >> 8, port & 255];
}

/** Rows for a receive into one scratch buffer, whose octets are worked on at once. */
const RECEIVE_OCTETS = 64 << 10;
const RECEIVE_AT = allocate(RECEIVE_OCTETS);
const RECEIVE = Int32Array.of(RECEIVE_AT, RECEIVE_OCTETS);
const ROW = new Int32Array(2);

const GREETING_AT = allocate(3);
bytes.set([5, 1, 0], GREETING_AT);
const GREETING_OCTETS = 3;
/** IPv4. */
const REPLY_OCTETS = 10;

const CONNECTING = 0;
const GREETED = 1;
const ASKED = 2;
const OPEN = 3;

/**
 * @typedef {object} StreamHandler
 * @property {(stream: Stream) => void} onOpen
 * @property {(stream: Stream, start: number, octets: number) => void} onData
 * @property {(stream: Stream) => void} onEnd the peer has finished; close it
 * @property {(stream: Stream, errno: number) => void} onError closed already
 */

/** What is the same for all streams to one target. */
export class Way {
  /**
   * @param {Place} target
   * @param {Place | null} socks
   */
  constructor(target, socks) {
    this.address = addressOf(socks ?? target);
    this.socks = socks !== null;
    const request = [5, 1, 0, ...socksAddress(target)];
    this.requestOctets = request.length;
    this.requestAt = allocate(request.length);
    bytes.set(request, this.requestAt);
  }
}

export class Stream {
  fd = -1;
  /** For the owner. */
  started = 0;
  octets = 0;
  #id = -1;
  #phase = OPEN;
  #way;
  #handler;

  /**
   * @param {Way | null} way null: an accepted one
   * @param {StreamHandler} handler
   */
  constructor(way, handler) {
    this.#way = way;
    this.#handler = handler;
  }

  /** Starts to connect. 0 or -errno. */
  connect() {
    const way = /** @type {Way} */ (this.#way);
    const fd = native.tcpConnect(way.address, 0, "", 0);
    if (fd < 0) return fd;
    this.#phase = CONNECTING;
    return this.#watch(fd, Epoll.OUT);
  }

  /** @param {number} fd */
  accepted(fd) {
    return this.#watch(fd, Epoll.IN);
  }

  /** Sends a few octets, which the kernel has room for. @param {number} start @param {number} octets */
  send(start, octets) {
    ROW[0] = start;
    ROW[1] = octets;
    return native.send(this.fd, ROW, 1);
  }

  close() {
    if (this.fd < 0) return;
    poller.remove(this.#id, this.fd);
    native.close(this.fd);
    this.fd = -1;
  }

  onPoll() {
    if (this.#phase === CONNECTING) {
      const errno = native.socketError(this.fd);
      if (errno !== 0) return this.#fail(errno);
      poller.modify(this.#id, this.fd, Epoll.IN);
      if (/** @type {Way} */ (this.#way).socks) {
        this.#phase = GREETED;
        this.send(GREETING_AT, GREETING_OCTETS);
      } else {
        this.#phase = OPEN;
        this.#handler.onOpen(this);
      }
      return;
    }
    const octets = native.recv(this.fd, RECEIVE, 1);
    if (octets === -EAGAIN) return;
    if (octets < 0) return this.#fail(-octets);
    if (this.#phase === OPEN) {
      if (octets === 0) this.#handler.onEnd(this);
      else this.#handler.onData(this, RECEIVE_AT, octets);
    } else this.#handshake(octets);
  }

  /** @param {number} octets */
  #handshake(octets) {
    const way = /** @type {Way} */ (this.#way);
    if (octets < 2 || bytes[RECEIVE_AT + 1] !== 0) return this.#fail(ECONNREFUSED);
    if (this.#phase === GREETED) {
      this.#phase = ASKED;
      this.send(way.requestAt, way.requestOctets);
      return;
    }
    this.#phase = OPEN;
    this.#handler.onOpen(this);
    if (octets > REPLY_OCTETS && this.fd >= 0) {
      this.#handler.onData(this, RECEIVE_AT + REPLY_OCTETS, octets - REPLY_OCTETS);
    }
  }

  /** @param {number} errno */
  #fail(errno) {
    this.close();
    this.#handler.onError(this, errno);
  }

  /** @param {number} fd @param {number} bits */
  #watch(fd, bits) {
    this.fd = fd;
    this.#id = poller.add(fd, this, bits);
    return this.#id < 0 ? this.#id : 0;
  }
}

const ECONNREFUSED = 111;

/**
 * Accepts streams on a port of all addresses.
 *
 * @param {number} port
 * @param {StreamHandler} handler
 */
export function listen(port, handler) {
  const fd = native.tcpListen(addressOf({ host: "0.0.0.0", port }), 4096);
  if (fd < 0) throw new Error(`cannot listen on port ${port}: errno ${-fd}`);
  const onPoll = () => {
    for (;;) {
      const accepted = native.tcpAccept(fd, null);
      if (accepted < 0) return;
      new Stream(null, handler).accepted(accepted);
    }
  };
  poller.add(fd, { onPoll }, Epoll.IN);
}

/** Prints a result, and ends the process at once. @param {object} result @returns {never} */
export function finish(result) {
  writeSync(1, `${JSON.stringify(result)}\n`);
  process.exit(0);
}
