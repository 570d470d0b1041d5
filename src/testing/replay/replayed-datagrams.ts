/**
 * UDP under replay: the datagrams of the client's side are fed at their times, those of the other side sent upstream's
 * way, and what arrives at either end is counted. The client of two endpoints is who spoke first.
 */

import type { RefuseReason, UdpFlow, UdpHandler } from "../../stack/ports.ts";
import { type Endpoint, formatEndpoint } from "../../stack/wire/address.ts";
import { parseUdp, UDP_HEADER, UdpHeader } from "../../stack/wire/udp.ts";
import type { StackDriver } from "../stack-driver.ts";
import { endpointKey, tunEnds } from "./ends.ts";
import type { WholePacket } from "./whole-packet.ts";

/** `client > server` or `server > client` → datagrams and octets of payload. */
export type DatagramCounts = Record<string, [number, number]>;

export class ReplayedDatagrams {
  /** Datagrams of clients that arrived upstream; answers that the stack sent to clients. */
  readonly upstream: DatagramCounts = {};
  readonly answers: DatagramCounts = {};
  /** The same as captured. */
  readonly expectedUpstream: DatagramCounts = {};
  readonly expectedAnswers: DatagramCounts = {};
  readonly #driver: StackDriver;
  readonly #udp: UdpHeader = new UdpHeader();
  /** By both ends as captured: who is the client, and the ends in packets. */
  readonly #pairs: Map<string, Pair> = new Map();
  /** By the ends in packets, client first. */
  readonly #names: Map<string, Pair> = new Map();
  readonly #flows: Map<string, UdpFlow> = new Map();

  readonly #feed: (packets: readonly Uint8Array[]) => void;

  /** `feed` gives packets to the stack of `driver` and ends the turn. */
  constructor(driver: StackDriver, feed: (packets: readonly Uint8Array[]) => void) {
    this.#driver = driver;
    this.#feed = feed;
  }

  /** What happens when the time of a captured datagram has come. null: it cannot be parsed. */
  plan(packet: WholePacket): (() => void) | null {
    const { upper } = packet;
    const udp = this.#udp;
    if (parseUdp(upper, 0, upper.length, udp) !== 0) return null;
    const src = packet.src.clone();
    const dst = packet.dst.clone();
    src.port = udp.srcPort;
    dst.port = udp.dstPort;
    const pair = this.#pair(src, dst);
    const payload = upper.subarray(UDP_HEADER, udp.length);
    if (pair.client.equals(src)) {
      count(this.expectedUpstream, pair.request, payload.length);
      const checksumAt = udp.checksum === 0 ? -1 : CHECKSUM;
      const { length } = udp;
      return () => {
        packet.finish(pair.tunClient, pair.tunServer, checksumAt, length);
        this.#feed(packet.packets);
      };
    }
    count(this.expectedAnswers, pair.answer, payload.length);
    return () => this.#answer(pair, payload);
  }

  /** What happens when the time of an ICMP error has come that quotes a datagram from `src` to `dst`. */
  planRefusal(src: Endpoint, dst: Endpoint, reason: RefuseReason): (() => void) | null {
    const pair = this.#pairs.get(pairKey(src, dst));
    if (pair === undefined || !pair.client.equals(src)) return null;
    return () => {
      this.#flows.get(endpointKey(pair.tunClient))?.refuse(pair.tunServer, reason);
      this.#driver.turn();
    };
  }

  open(flow: UdpFlow): UdpHandler {
    const key = endpointKey(flow.client);
    const client = flow.client.clone();
    this.#flows.set(key, flow);
    return {
      onDatagram: (target, start, end, segment) => {
        const pair = this.#names.get(`${endpointKey(client)} ${endpointKey(target)}`);
        const size = segment > 0 ? segment : end - start;
        // Of an empty datagram there is no octet and one datagram.
        for (let at = start; at === start || at < end; at += Math.max(1, size)) {
          const octets = Math.min(size, end - at);
          if (pair !== undefined) count(this.upstream, pair.request, octets);
        }
      },
      onBatchEnd: () => {},
      onClosed: () => {
        this.#flows.delete(key);
      },
    };
  }

  /** A whole UDP packet of the stack. */
  hear(packet: WholePacket): void {
    const udp = this.#udp;
    if (parseUdp(packet.upper, 0, packet.upper.length, udp) !== 0) return;
    const server = packet.src.clone();
    const client = packet.dst.clone();
    server.port = udp.srcPort;
    client.port = udp.dstPort;
    const pair = this.#names.get(`${endpointKey(client)} ${endpointKey(server)}`);
    if (pair !== undefined) count(this.answers, pair.answer, udp.length - UDP_HEADER);
  }

  /** Ends the flows that are left. */
  end(): void {
    for (const flow of this.#flows.values()) flow.close();
    this.#flows.clear();
  }

  #pair(src: Endpoint, dst: Endpoint): Pair {
    const key = pairKey(src, dst);
    let pair = this.#pairs.get(key);
    if (pair === undefined) {
      const [tunClient, tunServer] = tunEnds(src, dst);
      const [client, server] = [formatEndpoint(src), formatEndpoint(dst)];
      pair = {
        client: src,
        tunClient,
        tunServer,
        request: `${client} > ${server}`,
        answer: `${server} > ${client}`,
      };
      this.#pairs.set(key, pair);
      this.#names.set(`${endpointKey(tunClient)} ${endpointKey(tunServer)}`, pair);
    }
    return pair;
  }

  #answer(pair: Pair, payload: Uint8Array): void {
    const flow = this.#flows.get(endpointKey(pair.tunClient));
    const { datagrams, bytes } = this.#driver.memory;
    const start = datagrams.take(payload.length);
    if (flow === undefined || start < 0) return;
    bytes.set(payload, start);
    flow.send(pair.tunServer, start, start + payload.length);
    this.#driver.turn();
    datagrams.clear();
  }
}

interface Pair {
  readonly client: Endpoint;
  readonly tunClient: Endpoint;
  readonly tunServer: Endpoint;
  readonly request: string;
  readonly answer: string;
}

function count(counts: DatagramCounts, key: string, octets: number): void {
  counts[key] ??= [0, 0];
  counts[key][0]++;
  counts[key][1] += octets;
}

function pairKey(a: Endpoint, b: Endpoint): string {
  const [one, other] = [endpointKey(a), endpointKey(b)];
  return one < other ? `${one} ${other}` : `${other} ${one}`;
}

const CHECKSUM = 6;
