/**
 * An association at a proxy behind others: datagrams to its relay are payload of an association of the one before.
 *
 * That one comes first: when it is refused, this proxy is not asked. Both end together.
 */

import { constants } from "node:os";
import { SocksAssociation } from "../socks/association.ts";
import { type DatagramHandler, type DatagramSocket, MAX_QUEUED } from "../socks/datagram-socket.ts";
import { Command, udpHeaderLength } from "../socks/message.ts";
import type { Association, AssociationHandler, Destination, Refusal } from "../socks/ports.ts";
import { Endpoint } from "../stack/wire/address.ts";
import { ChainRefusal } from "./chain-refusal.ts";
import { ChainStream } from "./chain-stream.ts";
import type { ChainUpstream } from "./chain-upstream.ts";

const { EPIPE } = constants.errno;

export class ChainAssociation implements Association {
  readonly #chain: ChainUpstream;
  readonly #handler: AssociationHandler;
  readonly #socket: ChainDatagrams;
  /** Null before the one before is open. */
  #association: SocksAssociation | null = null;

  constructor(chain: ChainUpstream, handler: AssociationHandler) {
    this.#chain = chain;
    this.#handler = handler;
    this.#socket = new ChainDatagrams(
      chain,
      () => this.#associate(),
      (refusal) => this.#refused(refusal),
    );
  }

  maxPayload(to: Destination): number {
    const association = this.#association;
    if (association === null) return 0;
    // The header for this proxy is payload to those before it.
    const before = this.#socket.maxPayload - udpHeaderLength(to.name, to.endpoint);
    return Math.min(association.maxPayload(to), before);
  }

  send(to: Destination, start: number, end: number, segment: number): boolean {
    return this.#association?.send(to, start, end, segment) ?? false;
  }

  flush(): void {
    this.#association?.flush();
  }

  close(): void {
    this.#association?.close();
    this.#socket.close();
  }

  #associate(): void {
    const chain = this.#chain;
    const handler = this.#handler;
    const socket = this.#socket;
    this.#association = new SocksAssociation(
      {
        proxy: chain.proxy,
        counters: chain.counters,
        fragments: chain.fragments,
        openControl: (control) => new ChainStream(chain, Command.UDP_ASSOCIATE, null, control),
        createSocket: (receiver) => socket.lead(receiver),
      },
      {
        onOpen: () => handler.onOpen(),
        onRefused: (refusal) => this.#refused(refusal),
        onDatagram: (from, start, end) => handler.onDatagram(from, start, end),
        onLost: () => handler.onLost(),
      },
    );
  }

  #refused(refusal: Refusal): void {
    this.#handler.onRefused(
      refusal instanceof ChainRefusal ? refusal : new ChainRefusal(this.#chain.label, refusal),
    );
  }
}

/** The association of the proxies before, as the socket to the relay of this one. */
class ChainDatagrams implements DatagramSocket, AssociationHandler {
  readonly #chain: ChainUpstream;
  readonly #opened: () => void;
  readonly #refused: (refusal: Refusal) => void;
  readonly #destination: Destination = { name: null, endpoint: new Endpoint() };
  /** Null once it has ended. */
  #association: Association | null;
  #receiver: DatagramHandler | null = null;
  #queued = 0;

  constructor(chain: ChainUpstream, opened: () => void, refused: (refusal: Refusal) => void) {
    this.#chain = chain;
    this.#opened = opened;
    this.#refused = refused;
    this.#association = chain.before.associate(this);
  }

  /** Tells `receiver` from now on. */
  lead(receiver: DatagramHandler): this {
    this.#receiver = receiver;
    return this;
  }

  // ---- from the association ----------------------------------------------------------------------------------------

  onOpen(): void {
    this.#opened();
  }

  onRefused(refusal: Refusal): void {
    this.#association = null;
    this.#refused(refusal);
  }

  onDatagram(from: Endpoint, start: number, end: number): void {
    this.#receiver?.onReceived(from, start, end);
  }

  onLost(): void {
    this.#association = null;
    this.#receiver?.onBroken(EPIPE);
  }

  // ---- the socket --------------------------------------------------------------------------------------------------

  /** That is for those before to know. */
  hasRoute(): boolean {
    return true;
  }

  /** Octets of a datagram to the relay, this proxy's header included. */
  get maxPayload(): number {
    return this.#association?.maxPayload(this.#destination) ?? 0;
  }

  open(relay: Endpoint): number {
    if (this.#association === null) return -EPIPE;
    this.#destination.endpoint.copy(relay);
    return 0;
  }

  get room(): number {
    return MAX_QUEUED - this.#queued;
  }

  queue(header: number, headerLength: number, start: number, length: number): void {
    const association = this.#association;
    const { counters, proxy } = this.#chain;
    const { bytes, datagrams } = proxy.environment.memory;
    const at = association === null ? -1 : datagrams.take(headerLength + length);
    if (association === null || at < 0) {
      counters.sendFull++;
      return;
    }
    bytes.copyWithin(at, header, header + headerLength);
    bytes.copyWithin(at + headerLength, start, start + length);
    const end = at + headerLength + length;
    this.#queued++;
    if (association.send(this.#destination, at, end, 0)) return;
    association.flush();
    if (!association.send(this.#destination, at, end, 0)) counters.sendFull++;
  }

  flush(): void {
    this.#chain.counters.sent += this.#queued;
    this.#queued = 0;
    this.#association?.flush();
  }

  close(): void {
    this.#association?.close();
    this.#association = null;
  }
}
