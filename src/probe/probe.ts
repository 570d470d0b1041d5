/**
 * Finds out what a proxy can do, one connection a question.
 *
 * Reachable and willing come first, and a proxy that fails there ends the probe. Everything else is asked at once: each
 * question has its own deadline, so a proxy that hangs costs a few of them in all, and what was found stays found.
 * Sockets are those of Node.js, so this works where the addon is not built. CONNECTs carry no octet; only the datagrams of the UDP check reach anybody.
 */

import type { TunnelError } from "../errors.ts";
import type { Log } from "../log.ts";
import type { Loop } from "../loop.ts";
import { oneLine } from "../one-line.ts";
import type { SocketEnvironment } from "../socks/environment.ts";
import { Command, Method, Reply } from "../socks/message.ts";
import type { Destination, Refusal } from "../socks/ports.ts";
import type { ProxyUrl } from "../socks/proxy-url.ts";
import { errnoOf, errnoRefusal, SocksRefusal } from "../socks/refusal.ts";
import { SCHEMES, type Scheme } from "../socks/schemes.ts";
import type { Transport } from "../socks/transport.ts";
import { SocksUpstream } from "../socks/upstream.ts";
import { Endpoint, formatAddress, formatEndpoint, parseAddress } from "../stack/wire/address.ts";
import { type CommandAnswer, emptyCard, type Honesty, type ProbeCard, tenths } from "./card.ts";
import { sendDatagrams } from "./datagram-check.ts";
import { offerMethod } from "./method-check.ts";
import { lookUp } from "./targets.ts";
import { tlsSummary } from "./tls-check.ts";

/** What to ask for. */
export interface ProbePlan {
  /** Where CONNECT goes, by form; null: not asked. */
  readonly ipv4: Destination | null;
  readonly ipv6: Destination | null;
  readonly name: Destination | null;
  /** Where nobody listens. */
  readonly closed: Endpoint;
  /** Where datagrams go; `question` as in DatagramPlan. */
  readonly udp: {
    readonly peer: Endpoint;
    readonly question: string | null;
    readonly count: number;
  };
  /** Of every question, ms. */
  readonly deadline: number;
}

export interface ProbeEnvironment {
  readonly loop: Loop;
  readonly log: Log;
}

/** That measure the round trip. */
const CONNECTIONS = 3;

/** Deadlines of one question that a probe has in all: the longest row of questions, one after another. */
const QUESTIONS = 6;

/** Runs the probe. Never rejects: what made it fail is in the card's `error`. Outside a turn. */
export async function probe(
  url: ProxyUrl,
  plan: ProbePlan,
  environment: ProbeEnvironment,
): Promise<ProbeCard> {
  const run = new ProbeRun(url, plan, environment);
  try {
    await Promise.race([run.ask(), run.end(QUESTIONS * plan.deadline)]);
  } finally {
    run.close();
  }
  return run.card;
}

class ProbeRun {
  readonly card: ProbeCard;
  readonly #url: ProxyUrl;
  readonly #plan: ProbePlan;
  readonly #environment: ProbeEnvironment;
  /** Step by step. */
  readonly #upstream: SocksUpstream;
  /** All in one write. */
  readonly #ahead: SocksUpstream;
  readonly #prefix: string;
  readonly #scheme: Scheme;
  readonly #transport: Transport;
  #timer: NodeJS.Timeout | undefined;

  constructor(url: ProxyUrl, plan: ProbePlan, environment: ProbeEnvironment) {
    this.#url = url;
    this.#plan = plan;
    this.#environment = environment;
    this.#upstream = new SocksUpstream(url, this.#sockets("off"));
    this.#ahead = new SocksUpstream(url, this.#sockets("on"));
    this.#scheme = SCHEMES[url.scheme];
    this.#transport = this.#upstream.carrier;
    this.#prefix = `proxy ${this.#upstream.label}: `;
    this.card = emptyCard(this.#upstream.label);
  }

  /** Ends the probe after `most` ms, with what was found by then. */
  async end(most: number): Promise<void> {
    await new Promise((done) => {
      this.#timer = setTimeout(done, most);
    });
    this.#fail(
      "ERR_PROXY_TIMEOUT",
      `the probe took more than ${most / 1000} s; the rest was not asked`,
    );
  }

  close(): void {
    clearTimeout(this.#timer);
    this.#upstream.close();
    this.#ahead.close();
  }

  async ask(): Promise<void> {
    const server = await this.#reach();
    if (server === null) return;
    if (this.#scheme.way === "tls") {
      this.card.tls = await tlsSummary(this.#transport, server, this.#plan.deadline);
    }
    // What follows of methods, datagrams and BIND is SOCKS5's.
    const isSocks5 = this.#scheme.protocol === "socks5";
    if (isSocks5) await this.#methods(server);
    if (!(await this.#negotiate(await this.#roundTrip(server)))) return;
    const others = isSocks5 ? [this.#udp(), this.#bind()] : [];
    await Promise.all([this.#connects(), this.#closed(), ...others]);
    const { ipv4, ipv6, name } = this.card.connect;
    if ([ipv4, ipv6, name].some((answer) => answer?.granted === true)) return;
    const answer = name ?? ipv4 ?? ipv6;
    this.#fail("ERR_PROXY_REFUSED", `it granted no CONNECT (${answer?.target}: ${answer?.why})`);
  }

  // ---- reachable, and willing ------------------------------------------------------------------------------------

  /** The first of its addresses that takes a connection. */
  async #reach(): Promise<Endpoint | null> {
    const { host, port, path } = this.#url;
    // Where a Unix socket leads the address says nothing.
    const literal = parseAddress(path === undefined ? host : "127.0.0.1");
    const addresses = literal === null ? await lookUp(host, this.#plan.deadline) : [literal];
    if (addresses.length === 0) {
      this.#fail("ERR_PROXY_UNREACHABLE", `the name ${host} does not resolve; check it`);
      return null;
    }
    let refusal: Refusal | null = null;
    for (const address of addresses) {
      const server = new Endpoint().copy(address);
      server.port = port;
      const result = await this.#touch(server);
      if (typeof result === "number") {
        this.card.reachable = { address: path ?? formatEndpoint(server), ms: tenths(result) };
        return server;
      }
      refusal ??= result;
    }
    this.#refused(refusal as Refusal);
    return null;
  }

  /** Milliseconds until the connection stood, or why it does not. */
  #touch(server: Endpoint): Promise<number | Refusal> {
    const { label } = this.#upstream;
    return new Promise((resolve) => {
      const startedAt = performance.now();
      const { connect } = process.getBuiltinModule("node:net");
      const { path } = this.#url;
      const socket =
        path === undefined
          ? connect({ host: formatAddress(server), port: server.port })
          : connect({ path });
      const settle = (result: number | Refusal): void => {
        clearTimeout(timer);
        socket.destroy();
        resolve(result);
      };
      const silent = (): void => settle(new SocksRefusal("timeout", label, SILENT));
      const timer = setTimeout(silent, this.#plan.deadline);
      socket.once("connect", () => settle(performance.now() - startedAt));
      socket.once("error", (error) => settle(errnoRefusal(label, errnoOf(error))));
    });
  }

  /** The shortest of a few connections, ms: the first ones wait for code to be compiled. */
  async #roundTrip(server: Endpoint): Promise<number> {
    let shortest = (this.card.reachable as { ms: number }).ms;
    for (let i = 0; i < CONNECTIONS; i++) {
      const result = await this.#touch(server);
      if (typeof result === "number") shortest = Math.min(shortest, result);
    }
    const { address } = this.card.reachable as { address: string };
    this.card.reachable = { address, ms: tenths(shortest) };
    return shortest;
  }

  async #methods(server: Endpoint): Promise<void> {
    const { deadline } = this.#plan;
    const offer = (method: number) => offerMethod(this.#transport, server, method, deadline);
    const [none, password, gssapi] = await Promise.all([
      offer(Method.NONE),
      offer(Method.PASSWORD),
      offer(Method.GSSAPI),
    ]);
    this.card.methods = { none, password, gssapi };
  }

  /** Method and credentials, nothing asked for. False: it will not have us. */
  async #negotiate(rtt: number): Promise<boolean> {
    const startedAt = performance.now();
    const refusal = await this.#upstream.probe();
    if (refusal !== null) {
      this.#refused(refusal);
      return false;
    }
    const ms = Math.max(0, performance.now() - startedAt - rtt);
    this.card.handshake = {
      roundTrips: this.#scheme.protocol !== "socks5" ? 1 : this.#url.user === null ? 2 : 3,
      ms: tenths(ms),
      rtts: Math.round((10 * ms) / rtt) / 10,
    };
    return true;
  }

  // ---- commands --------------------------------------------------------------------------------------------------

  async #connects(): Promise<void> {
    const { ipv4, ipv6, name } = this.#plan;
    const { connect } = this.card;
    await Promise.all([
      this.#connect(ipv4).then((answer) => {
        connect.ipv4 = answer;
      }),
      this.#connect(ipv6).then((answer) => {
        connect.ipv6 = answer;
      }),
      this.#connect(name).then((answer) => {
        connect.name = answer;
      }),
    ]);
    const destination = [
      [connect.name, name],
      [connect.ipv4, ipv4],
      [connect.ipv6, ipv6],
    ] as const;
    const granted = destination.find(([answer]) => answer?.granted === true);
    if (granted !== undefined && this.#scheme.protocol === "socks5")
      await this.#pipelined(granted[1] as Destination);
  }

  async #connect(destination: Destination | null): Promise<CommandAnswer | null> {
    return destination === null ? null : this.#request(Command.CONNECT, destination);
  }

  /** What was granted step by step is asked for in one write. */
  async #pipelined(destination: Destination): Promise<void> {
    // Credentials leave unasked only once the method is known (src/socks/pipelining.ts).
    const refusal = await this.#ahead.probe();
    if (refusal !== null) return;
    const { granted, why } = await this.#request(Command.CONNECT, destination, this.#ahead);
    this.card.pipelining = { taken: granted, why };
  }

  async #closed(): Promise<void> {
    const { closed } = this.#plan;
    const told: Refusal[] = [];
    const destination = { name: null, endpoint: closed };
    const answer = await this.#request(Command.CONNECT, destination, this.#upstream, told);
    this.card.honesty = judge(answer, told[0]);
  }

  async #udp(): Promise<void> {
    const { deadline, udp } = this.#plan;
    const answer = await this.#request(Command.UDP_ASSOCIATE, null);
    const nothing = { sent: 0, answered: 0, answerMs: null };
    const peer = formatEndpoint(udp.peer);
    this.card.udp = { ...answer, ...nothing, peer };
    if (!answer.granted) return;
    const { loop } = this.#environment;
    const tally = await sendDatagrams(loop, this.#upstream, { ...udp, patience: deadline });
    const { refusal, ...counts } = tally;
    if (refusal === null) this.card.udp = { ...answer, ...counts, peer };
    else this.card.udp = { ...answer, ...nothing, peer, ...this.#refusalOf(refusal) };
  }

  async #bind(): Promise<void> {
    this.card.bind = await this.#request(Command.BIND, null);
  }

  /** One connection that ends with the answer; a refusal is put into `told`. */
  #request(
    command: number,
    destination: Destination | null,
    upstream: SocksUpstream = this.#upstream,
    told: Refusal[] = [],
  ): Promise<CommandAnswer> {
    const { loop } = this.#environment;
    return new Promise((resolve) => {
      const startedAt = performance.now();
      const settle = (part: Omit<CommandAnswer, "target" | "ms">): void => {
        resolve({
          target: destination === null ? "" : formatDestination(destination),
          ms: tenths(performance.now() - startedAt),
          ...part,
        });
      };
      loop.enter();
      const stream = upstream.request(command, destination, {
        onOpen: () => {
          const { handshake } = stream;
          const name = handshake?.boundName ?? null;
          const bound =
            handshake === null
              ? null
              : oneLine(formatDestination({ name, endpoint: handshake.bound }));
          stream.close();
          settle({ granted: true, bound, reply: null, why: null });
        },
        onRefused: (refusal) => {
          told.push(refusal);
          settle({ bound: null, ...this.#refusalOf(refusal) });
        },
        onReadable() {},
        onBytes() {},
        onEnd() {},
        onWritable() {},
        onReset() {},
      });
      loop.leave();
    });
  }

  // ---- words -----------------------------------------------------------------------------------------------------

  #refusalOf({ kind, reply, error }: Refusal): Pick<CommandAnswer, "granted" | "reply" | "why"> {
    const why = error.message.startsWith(this.#prefix)
      ? error.message.slice(this.#prefix.length)
      : error.message;
    return { granted: false, reply: kind === "reply" ? reply : null, why };
  }

  #refused({ error }: Refusal): void {
    this.card.error = { code: error.code, message: error.message };
  }

  #fail(code: TunnelError["code"], why: string): void {
    this.card.error = { code, message: this.#prefix + why };
  }

  #sockets(pipeline: "on" | "off"): SocketEnvironment {
    const { loop, log } = this.#environment;
    return {
      addon: null,
      poller: null,
      memory: loop.memory,
      timers: loop.timers,
      turn: loop,
      log,
      mark: 0,
      device: "",
      dialDeadline: this.#plan.deadline,
      pipeline,
    };
  }
}

/** Of a CONNECT to where nobody listens. Who is still waiting at the deadline waits for an answer that cannot come. */
function judge({ target, granted, reply, why }: CommandAnswer, refusal?: Refusal): Honesty {
  if (granted) {
    return { verdict: "lying", target, why: `it granted ${target}, where nobody listens` };
  }
  if (refusal?.kind === "timeout" && refusal.isProxySilent !== true) {
    return { verdict: "honest", target, why: `it waits for ${target}` };
  }
  return {
    verdict: reply === null || SAYS_NOTHING.has(reply) ? "unknown" : "honest",
    target,
    why: `${target}: ${why}`,
  };
}

/** Of the destination: these are said before it is tried. */
const SAYS_NOTHING: ReadonlySet<number> = new Set([
  Reply.NOT_ALLOWED,
  Reply.COMMAND_NOT_SUPPORTED,
  Reply.ADDRESS_TYPE_NOT_SUPPORTED,
]);

export function formatDestination({ name, endpoint }: Destination): string {
  return name === null ? formatEndpoint(endpoint) : `${name}:${endpoint.port}`;
}

const SILENT = "no answer to the connection in time; is it overloaded, or a firewall in between?";
