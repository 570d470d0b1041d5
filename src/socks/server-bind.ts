/**
 * BIND of the built-in server (RFC 1928 §4, §6; SOCKS4 as well): one connection from outside to a client.
 *
 * It listens at a port of the kernel's choice, at the address where the expected peer finds this host: the configured
 * one, else the one that packets to the peer leave from, else, with a peer left open, the one the client connected to. The
 * first reply tells it. One connection is accepted, within {@link BIND_WAIT}: from the address that the request named, if
 * it named one, and within the access rules; any other is reset and counted, and the wait goes on. The second reply
 * tells who came.
 */

import { constants } from "node:os";
import { Epoll } from "../native/binding.ts";
import { Timer, type TimerHandler } from "../stack/timer-wheel.ts";
import { Endpoint } from "../stack/wire/address.ts";
import { Reply } from "./message.ts";
import type { NameHandler } from "./name-resolver.ts";
import { type DialOwner, isResolvable } from "./server-dial.ts";
import type { ConnectionEnvironment } from "./server-environment.ts";
import { isExhaustion, replyOfErrno } from "./server-errno.ts";
import { type LegOwner, ServerLeg } from "./server-leg.ts";
import { readWords, writeWords } from "./words.ts";

export interface BindOwner extends DialOwner {
  /** It listens at `bound` (reused): the first reply. */
  onListening(bound: Endpoint): void;
}

/** From the request to the peer's connection: what SOCKS4 says ("2 minutes"). */
export const BIND_WAIT = 120_000;
/** Waiting BINDs of one server, each with a port of its own. */
export const MAX_BINDS = 1024;
/** Connections that wait to be looked at. */
const BACKLOG = 8;

const { EAGAIN } = constants.errno;

export class ServerBind implements LegOwner, TimerHandler, NameHandler {
  /** The listening socket, then the connection that came. */
  readonly target: ServerLeg;
  readonly #environment: ConnectionEnvironment;
  readonly #client: Endpoint;
  /** Where the client found us. */
  readonly #near: Endpoint;
  /** DST of the request. */
  readonly #destination: Endpoint;
  readonly #owner: BindOwner;
  readonly #timer = new Timer(this);
  /** Who may connect; none: anyone. */
  #expected: readonly Endpoint[] = [];
  #ended = false;

  /** For `client`, which found us at `near`; `destination` is the owner's, and stays as it is. */
  constructor(
    environment: ConnectionEnvironment,
    client: Endpoint,
    near: Endpoint,
    destination: Endpoint,
    owner: BindOwner,
  ) {
    this.#environment = environment;
    this.#client = client;
    this.#near = near;
    this.#destination = destination;
    this.#owner = owner;
    this.target = new ServerLeg(environment, this);
    environment.stats.activeBinds++;
  }

  /** Begins: with the peer's `name`, or with the destination's address if it is null. May end at once. */
  start(name: string | null): void {
    const { names, timers } = this.#environment;
    timers.set(this.#timer, timers.now() + BIND_WAIT);
    if (name === null) {
      if (this.#destination.isUnspecified) this.#listen();
      else this.onAddresses([this.#destination]);
    } else if (!isResolvable(name)) {
      this.#fail(Reply.HOST_UNREACHABLE);
    } else if (!names.resolve(name, this, this.#client)) {
      this.#fail(Reply.GENERAL_FAILURE);
    }
  }

  /** Gives up. The owner is not told; a target that has not come is closed. Idempotent. */
  close(): void {
    if (this.#ended) return;
    this.#end();
    this.target.close();
  }

  onAddresses(addresses: readonly Endpoint[]): void {
    if (this.#ended) return;
    if (addresses.length === 0) {
      this.#fail(Reply.HOST_UNREACHABLE);
      return;
    }
    this.#expected = addresses.filter((address) => this.#permits(address));
    if (this.#expected.length === 0) this.#fail(Reply.NOT_ALLOWED);
    else this.#listen();
  }

  /** Connections have come. */
  onLeg(): void {
    const { addon, address, stats } = this.#environment;
    for (let i = 0; i < BACKLOG; i++) {
      const fd = addon.tcpAccept(this.target.fd, address);
      if (fd === -EAGAIN) return;
      if (fd < 0) {
        // Else the peer's fault (it left before it was accepted): on to the next.
        if (!isExhaustion(-fd)) continue;
        this.#exhausted(-fd);
        return;
      }
      readWords(address, 0, peer);
      if (!this.#isExpected(peer)) {
        stats.bindForeign++;
        addon.reset(fd);
      } else if (!this.#permits(peer)) {
        stats.bindNotAllowed++;
        addon.reset(fd);
      } else {
        this.target.close();
        this.target.fd = fd;
        this.#end();
        this.#owner.onConnected();
        return;
      }
    }
  }

  /** Nobody came. */
  onTimer(): void {
    this.#environment.stats.bindTimeouts++;
    this.#fail(Reply.HOST_UNREACHABLE);
  }

  #listen(): void {
    const { addon, address } = this.#environment;
    this.#chooseAddress();
    const fd = addon.tcpListen(address, BACKLOG);
    if (fd >= 0) this.target.fd = fd;
    const failure = fd < 0 ? fd : this.target.watch(Epoll.IN);
    if (failure < 0) {
      if (isExhaustion(-failure)) this.#exhausted(-failure);
      else this.#fail(replyOfErrno(-failure));
      return;
    }
    addon.localAddress(fd, address);
    this.#owner.onListening(readWords(address, 0, bound));
  }

  /** Puts the address to listen at, with port 0, into `address` of the environment. */
  #chooseAddress(): void {
    const { address, bindAddress } = this.#environment;
    const first = this.#expected[0];
    if (bindAddress !== null) writeWords(address, bindAddress);
    else if (first === undefined || !this.#facing(first)) writeWords(address, this.#near);
    address[4] = 0;
  }

  /** The address of ours that packets to `to` leave from: the kernel's choice, for which none has to leave. */
  #facing(to: Endpoint): boolean {
    const { addon, address, mark, device } = this.#environment;
    const fd = addon.udpOpen(null, !to.isV4, mark, device);
    if (fd < 0) return false;
    writeWords(address, to);
    const found = addon.udpConnect(fd, address) === 0 && addon.localAddress(fd, address) === 0;
    addon.close(fd);
    return found;
  }

  /** By address alone: where a peer connects from, its port is its kernel's choice. */
  #isExpected(from: Endpoint): boolean {
    const expected = this.#expected;
    for (let i = 0; i < expected.length; i++) {
      if ((expected[i] as Endpoint).sameAddress(from)) return true;
    }
    return expected.length === 0;
  }

  /**
   * The access rules, for whoever connects, as if the client had asked for the request's port there. They keep clients
   * from reaching this host's own programs; that those reach a client on this very host takes nothing from anyone.
   */
  #permits(from: Endpoint): boolean {
    judged.copy(from).port = this.#destination.port;
    const verdict = this.#environment.judge(this.#client, judged);
    return verdict === "allowed" || (verdict === "own-host" && this.#client.isLoopback);
  }

  #exhausted(errno: number): void {
    this.#environment.onExhausted(errno);
    this.#fail(Reply.GENERAL_FAILURE);
  }

  #fail(reply: number): void {
    this.close();
    this.#owner.onDialFailed(reply);
  }

  #end(): void {
    this.#ended = true;
    this.#environment.stats.activeBinds--;
    this.#environment.timers.clear(this.#timer);
  }
}

const peer = new Endpoint();
const judged = new Endpoint();
const bound = new Endpoint();
