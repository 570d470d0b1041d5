/**
 * A relay between the real stack, over an in-memory device in virtual time, and a scripted upstream.
 *
 * The client side is raw packets: `TcpPeer` is a TCP connection of the fewest lines, UDP and ICMP are packets.
 */

import {
  endpointOf,
  FAKE_RANGES,
  HOST_LOOPBACK_IPV4,
  HOST_LOOPBACK_IPV6,
  HOST_LOOPBACK_NAME,
  RESERVED,
  RESOLVER_IPV4,
  RESOLVER_IPV6,
} from "../../src/addresses.ts";
import { createLog } from "../../src/log.ts";
import { parseNamePattern } from "../../src/relay/name-patterns.ts";
import { Relay, type RelayOptions } from "../../src/relay/relay.ts";
import { Router } from "../../src/relay/router.ts";
import { parseRule } from "../../src/rules/rule-text.ts";
import { splitSuperSegment } from "../../src/testing/memory-device.ts";
import {
  buildTcp,
  buildUdp,
  type DecodedPacket,
  decodePacket,
  type IcmpPacket,
  TcpFlag,
  type TcpPacket,
  type UdpPacket,
} from "../../src/testing/packet-builder.ts";
import { StackDriver, type StackDriverOptions } from "../../src/testing/stack-driver.ts";
import { endpoint, ScriptedUpstream } from "./scripted-upstream.ts";

export const CLIENT4 = "10.0.0.2";
export const CLIENT6 = "fd00::2";

export interface RelayWorldOptions {
  readonly relay?: Partial<Omit<RelayOptions, "dns" | "hostLoopback">>;
  readonly dnsMode?: RelayOptions["dns"]["mode"];
  readonly dnsServer?: string | null;
  /** Prefix of the IPv4 range of mode "fake". */
  readonly fakePrefix?: number;
  /** Patterns of names that mode "fake" leaves alone. */
  readonly real?: readonly string[];
  readonly hostLoopback?: boolean;
  /** Rules for flows; the upstream "other" is there for them, and "direct". */
  readonly rules?: readonly string[];
  readonly driver?: StackDriverOptions;
}

/** What to check `deliver` and friends with: split "ADDRESS:PORT". */
function split(text: string): [string, number] {
  const at = text.lastIndexOf(":");
  return [text.slice(0, at).replace(/[[\]]/g, ""), Number(text.slice(at + 1))];
}

export class RelayWorld {
  readonly driver: StackDriver;
  readonly relay: Relay;
  readonly upstream: ScriptedUpstream;
  readonly direct: ScriptedUpstream;
  /** The upstream that rules name "other". */
  readonly other: ScriptedUpstream;
  /** Lines logged at warn and above. */
  readonly lines: string[] = [];
  readonly #peers = new Map<number, TcpPeer>();
  #datagrams: UdpPacket[] = [];
  #errors: IcmpPacket[] = [];

  constructor(options: RelayWorldOptions = {}) {
    let relay: Relay | null = null;
    this.driver = new StackDriver(
      {
        onTcpOpen: (connection) => relay?.onTcpOpen(connection) ?? null,
        onUdpOpen: (flow, target) => relay?.onUdpOpen(flow, target) ?? null,
      },
      options.driver,
    );
    const { memory, time } = this.driver;
    this.upstream = new ScriptedUpstream(memory);
    this.direct = new ScriptedUpstream(memory);
    this.other = new ScriptedUpstream(memory);
    const server = options.dnsServer === undefined ? "9.9.9.9:53" : options.dnsServer;
    let seed = 1;
    relay = new Relay(
      {
        upstream: this.upstream,
        direct: this.direct,
        ...(options.rules === undefined ? {} : { router: this.#router(options.rules) }),
        dns: {
          mode: options.dnsMode ?? "auto",
          server: server === null ? null : endpoint(server),
          addresses: [endpointOf(RESOLVER_IPV4), endpointOf(RESOLVER_IPV6)],
          fakeRanges: {
            ...FAKE_RANGES,
            ...(options.fakePrefix && { ipv4: `198.18.0.0/${options.fakePrefix}` }),
          },
          real: (options.real ?? []).map((text) => parseNamePattern(text)!),
        },
        hostLoopback: {
          enabled: options.hostLoopback ?? false,
          addresses: [endpointOf(HOST_LOOPBACK_IPV4), endpointOf(HOST_LOOPBACK_IPV6)],
          name: HOST_LOOPBACK_NAME,
        },
        reserved: RESERVED,
        nofile: 1024,
        udpTimeout: 300_000,
        random: (ids) => {
          for (let i = 0; i < ids.length; i++) {
            seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
            ids[i] = seed >>> 16;
          }
        },
        ...options.relay,
      },
      { memory, timers: time, log: createLog("warn", (line) => this.lines.push(line.trimEnd())) },
    );
    this.relay = relay;
  }

  #router(rules: readonly string[]): Router {
    return new Router(rules.map(parseRule), {
      proxy: this.upstream,
      direct: this.direct,
      named: new Map([["other", this.other]]),
    });
  }

  /** Runs something the upstream does, then ends the turn. */
  act(action: () => void): void {
    action();
    this.settle();
  }

  /** Ends the turn, and those that the clients' acknowledgements start. */
  settle(): void {
    for (let round = 0; round < 10_000; round++) {
      this.driver.turn();
      this.driver.memory.datagrams.clear();
      const packets = this.driver.take();
      if (packets.length === 0) return;
      for (const packet of packets) {
        for (const bytes of splitSuperSegment(packet)) this.#receive(decodePacket(bytes));
      }
    }
    throw new Error("the stack never falls silent");
  }

  /** Lets `milliseconds` pass. */
  advance(milliseconds: number): void {
    const end = this.driver.time.now() + milliseconds;
    while (this.driver.time.step(end)) this.settle();
    this.settle();
  }

  inject(packet: Uint8Array): void {
    this.driver.device.queue(packet);
  }

  tcp(target: string, port: number): TcpPeer {
    const peer = new TcpPeer(this, target, port);
    this.#peers.set(port, peer);
    return peer;
  }

  /** A connection that is open on both sides. */
  openTcp(target = "93.184.216.34:80", port = 40000): TcpPeer {
    const peer = this.tcp(target, port);
    peer.syn();
    this.act(() => this.upstream.stream.open());
    if (peer.state !== "open") throw new Error(`the client is ${peer.state}`);
    return peer;
  }

  /** Datagrams from the client's `port`, in one batch. */
  udp(target: string, port: number, ...payloads: readonly Uint8Array[]): void {
    const [destination, destinationPort] = split(target);
    const source = destination.includes(":") ? CLIENT6 : CLIENT4;
    for (const payload of payloads) {
      this.inject(buildUdp({ source, destination, sourcePort: port, destinationPort, payload }));
    }
    this.settle();
  }

  /** Datagrams to clients since the last call. */
  datagrams(): UdpPacket[] {
    const taken = this.#datagrams;
    this.#datagrams = [];
    return taken;
  }

  /** ICMP since the last call. */
  icmp(): IcmpPacket[] {
    const taken = this.#errors;
    this.#errors = [];
    return taken;
  }

  /** The same as "type/code". */
  errors(): string[] {
    return this.icmp().map(({ type, code }) => `${type}/${code}`);
  }

  #receive(packet: DecodedPacket): void {
    if (packet.kind !== "other" && packet.faults.length > 0) throw new Error(packet.faults[0]);
    if (packet.kind === "udp") this.#datagrams.push(packet);
    else if (packet.kind === "icmp") this.#errors.push(packet);
    else if (packet.kind === "tcp") this.#peers.get(packet.destinationPort)?.receive(packet);
  }
}

const ISS = 1000;

/** The least a TCP client can be: acknowledges everything in order, sends when told, resends nothing. */
export class TcpPeer {
  state: "closed" | "syn-sent" | "open" | "reset" = "closed";
  finReceived = false;
  /** The window to offer; octets beyond it are an error. */
  window = 65535;
  /** Data is acknowledged. */
  acknowledges = true;
  readonly #world: RelayWorld;
  readonly #ip: { readonly source: string; readonly destination: string };
  readonly #port: number;
  readonly #targetPort: number;
  #seq = ISS;
  #rcvNxt = 0;
  #chunks: Uint8Array[] = [];
  /** The peer's last acknowledgement and window. */
  acked = 0;
  peerWindow = 0;

  constructor(world: RelayWorld, target: string, port: number) {
    const [destination, targetPort] = split(target);
    this.#world = world;
    this.#ip = { source: destination.includes(":") ? CLIENT6 : CLIENT4, destination };
    this.#port = port;
    this.#targetPort = targetPort;
  }

  /** The octets received in order so far. */
  get received(): Uint8Array {
    const all = new Uint8Array(Buffer.concat(this.#chunks));
    this.#chunks = [all];
    return all;
  }

  syn(): void {
    this.state = "syn-sent";
    this.#seq = ISS;
    this.#send(TcpFlag.SYN);
    this.#seq++;
    this.#world.settle();
  }

  /** Sends `payload`, in packets of at most 1,400 octets. */
  send(payload: Uint8Array): void {
    for (let at = 0; at < payload.length; at += 1400) {
      const part = payload.subarray(at, at + 1400);
      this.#send(TcpFlag.ACK | TcpFlag.PSH, part);
      this.#seq += part.length;
      if (at % 42_000 === 0) this.#world.settle();
    }
    this.#world.settle();
  }

  fin(): void {
    this.#send(TcpFlag.FIN | TcpFlag.ACK);
    this.#seq++;
    this.#world.settle();
  }

  rst(): void {
    this.#send(TcpFlag.RST | (this.state === "open" ? TcpFlag.ACK : 0));
    this.#world.settle();
  }

  /** Acknowledges what was received, with the window as it is. */
  ack(): void {
    this.#send(TcpFlag.ACK);
    this.#world.settle();
  }

  receive(packet: TcpPacket): void {
    if ((packet.flags & TcpFlag.RST) !== 0) {
      this.state = "reset";
      return;
    }
    this.acked = packet.ack - ISS - 1;
    this.peerWindow = packet.window;
    if ((packet.flags & TcpFlag.SYN) !== 0) {
      this.state = "open";
      this.#rcvNxt = (packet.seq + 1) >>> 0;
      this.#send(TcpFlag.ACK);
      return;
    }
    if (packet.seq !== this.#rcvNxt) return;
    if (packet.payload.length > 0) {
      this.#chunks.push(packet.payload);
      this.#rcvNxt = (this.#rcvNxt + packet.payload.length) >>> 0;
    }
    if ((packet.flags & TcpFlag.FIN) !== 0) {
      this.finReceived = true;
      this.#rcvNxt = (this.#rcvNxt + 1) >>> 0;
    }
    const news = packet.payload.length > 0 || (packet.flags & TcpFlag.FIN) !== 0;
    if (news && this.acknowledges) this.#send(TcpFlag.ACK);
  }

  #send(flags: number, payload: Uint8Array = new Uint8Array(0)): void {
    this.#world.inject(
      buildTcp({
        ...this.#ip,
        sourcePort: this.#port,
        destinationPort: this.#targetPort,
        seq: this.#seq >>> 0,
        ack: (flags & TcpFlag.ACK) !== 0 ? this.#rcvNxt : 0,
        flags,
        window: this.window,
        options: (flags & TcpFlag.SYN) !== 0 ? [{ kind: "mss", value: 1460 }] : [],
        payload,
      }),
    );
  }
}
