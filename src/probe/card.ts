/**
 * What a probe found out about a proxy, and how a person reads it.
 *
 * The same object is what `--json` prints; null stands for what was not found out. It holds no credentials.
 */

import type { ErrorCode } from "../errors.ts";

/** The answer to one method offered alone (RFC 1928 §3). */
export type MethodAnswer = "accepted" | "refused" | "closed" | "no answer" | "nonsense";

/** The answer to one request. */
export interface CommandAnswer {
  /** What was asked for: "ADDRESS:PORT", "NAME:PORT"; "" where nothing is named. */
  readonly target: string;
  readonly granted: boolean;
  /** From the beginning of the connection to the answer. */
  readonly ms: number;
  /** BND.ADDR and BND.PORT. */
  readonly bound: string | null;
  /** REP, where there was one that refuses. */
  readonly reply: number | null;
  /** Why it was not granted. */
  readonly why: string | null;
}

export interface UdpAnswer extends CommandAnswer {
  /** The resolver or the echo that datagrams were for. */
  readonly peer: string;
  readonly sent: number;
  readonly answered: number;
  /** Median, from sending to the answer; null without one. */
  readonly answerMs: number | null;
}

export interface Honesty {
  /** "unknown": it refused for a reason that says nothing of the destination. */
  readonly verdict: "honest" | "lying" | "unknown";
  /** Where nobody listens. */
  readonly target: string;
  readonly why: string;
}

export interface Pipelining {
  /** A whole handshake in one write. */
  readonly taken: boolean;
  readonly why: string | null;
}

export interface TlsSummary {
  readonly protocol: string;
  readonly cipher: string;
  readonly subject: string;
  readonly issuer: string;
  /** As in the certificate, for instance "Nov 26 13:00:00 2027 GMT". */
  readonly validTo: string;
  /** SHA-256. */
  readonly fingerprint: string;
}

export interface ProbeCard {
  /** The URL without credentials. */
  readonly proxy: string;
  reachable: { readonly address: string; readonly ms: number } | null;
  tls: TlsSummary | null;
  methods: {
    readonly none: MethodAnswer;
    readonly password: MethodAnswer;
    readonly gssapi: MethodAnswer;
  } | null;
  /**
   * The round trips of a handshake up to the reply, that of TCP not included; what those before the request took, and
   * how many times the round trip of TCP that is.
   */
  handshake: { readonly roundTrips: number; readonly ms: number; readonly rtts: number } | null;
  connect: {
    ipv4: CommandAnswer | null;
    ipv6: CommandAnswer | null;
    name: CommandAnswer | null;
  };
  honesty: Honesty | null;
  pipelining: Pipelining | null;
  udp: UdpAnswer | null;
  bind: CommandAnswer | null;
  /** What ended the probe early, or made it fail. */
  error: { readonly code: ErrorCode; readonly message: string } | null;
}

export function emptyCard(proxy: string): ProbeCard {
  return {
    proxy,
    reachable: null,
    tls: null,
    methods: null,
    handshake: null,
    connect: { ipv4: null, ipv6: null, name: null },
    honesty: null,
    pipelining: null,
    udp: null,
    bind: null,
    error: null,
  };
}

/** Milliseconds as a card has them: to a tenth, and never 0, which nothing takes. */
export function tenths(ms: number): number {
  return Math.max(0.1, Math.round(10 * ms) / 10);
}

/** The card as lines of text, each with its newline; what was not found out has none. */
export function cardText(card: ProbeCard): string {
  const rows: Array<readonly [string, string]> = [["proxy", card.proxy]];
  const { reachable, tls, methods, handshake, connect, honesty, pipelining, udp, bind } = card;
  rows.push([
    "reachable",
    reachable === null ? "no" : `${reachable.address}, ${milliseconds(reachable.ms)}`,
  ]);
  if (tls !== null) {
    rows.push(["TLS", `${tls.protocol}, ${tls.cipher}`]);
    rows.push(["certificate", `${tls.subject}, by ${tls.issuer}, until ${tls.validTo}`]);
    rows.push(["fingerprint", tls.fingerprint]);
  }
  if (methods !== null) {
    const { none, password, gssapi } = methods;
    rows.push(["methods", `none ${none}, user and password ${password}, GSSAPI ${gssapi}`]);
  }
  if (handshake !== null) {
    const { roundTrips, ms, rtts } = handshake;
    const trips = roundTrips === 1 ? "1 round trip" : `${roundTrips} round trips`;
    const before =
      roundTrips === 1
        ? ""
        : `; ${milliseconds(ms)} before the request, ${rtts} times the connection's`;
    rows.push(["handshake", trips + before]);
  }
  for (const [name, answer] of [
    ["CONNECT IPv4", connect.ipv4],
    ["CONNECT IPv6", connect.ipv6],
    ["CONNECT name", connect.name],
  ] as const) {
    if (answer !== null) rows.push([name, `${answer.target}: ${outcome(answer)}`]);
  }
  if (honesty !== null) rows.push(["honest", `${VERDICTS[honesty.verdict]}: ${honesty.why}`]);
  if (pipelining !== null) {
    rows.push(["pipelining", pipelining.taken ? "yes" : `no: ${pipelining.why}`]);
  }
  if (udp !== null) rows.push(["UDP", udpOutcome(udp)]);
  if (bind !== null) rows.push(["BIND", outcome(bind)]);
  return rows.map(([name, text]) => `${name.padEnd(WIDTH)}${text}\n`).join("");
}

const WIDTH = 14;

const VERDICTS: Readonly<Record<Honesty["verdict"], string>> = {
  honest: "yes",
  lying: "no, it says yes before it knows",
  unknown: "cannot be told",
};

function outcome({ granted, ms, bound, why }: CommandAnswer): string {
  if (!granted) return `no, ${why}`;
  return `yes, ${milliseconds(ms)}${bound === null ? "" : ` (BND ${bound})`}`;
}

function udpOutcome(udp: UdpAnswer): string {
  if (!udp.granted) return outcome(udp);
  const { peer, sent, answered, answerMs } = udp;
  const median = answerMs === null ? "" : `, ${milliseconds(answerMs)}`;
  return `${outcome(udp)}; ${answered} of ${sent} answered by ${peer}${median}`;
}

function milliseconds(ms: number): string {
  return `${ms} ms`;
}
