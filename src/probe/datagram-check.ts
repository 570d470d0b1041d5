/**
 * How many datagrams come back through an association: questions to a resolver, or anything to an echo.
 *
 * All leave at once, as programs send them, each with a number of its own; an answer counts once.
 */

import type { Loop } from "../loop.ts";
import { dnsPacket } from "../relay/dns-packet.ts";
import type { Association, Refusal, Upstream } from "../socks/ports.ts";
import { Endpoint } from "../stack/wire/address.ts";
import { tenths } from "./card.ts";

export interface DatagramPlan {
  readonly peer: Endpoint;
  /** A name to ask the resolver at `peer` for; null: `peer` sends back what it gets. */
  readonly question: string | null;
  /** At most 1,000. */
  readonly count: number;
  /** How long answers are waited for, ms. */
  readonly patience: number;
}

export interface DatagramTally {
  /** Null: the association was granted. */
  readonly refusal: Refusal | null;
  readonly sent: number;
  readonly answered: number;
  /** Median, ms. */
  readonly answerMs: number | null;
}

/** Opens an association and sends. Never rejects; the association is closed when it resolves. Outside a turn. */
export function sendDatagrams(
  loop: Loop,
  upstream: Upstream,
  plan: DatagramPlan,
): Promise<DatagramTally> {
  return new Promise((resolve) => {
    const times: number[] = [];
    const answered = new Set<number>();
    let sent = 0;
    let sentAt = 0;
    let timer: NodeJS.Timeout | undefined;
    let association: Association | null = null;
    const settle = (refusal: Refusal | null): void => {
      clearTimeout(timer);
      if (refusal === null) association?.close();
      times.sort((a, b) => a - b);
      const median = times[times.length >> 1];
      resolve({
        refusal,
        sent,
        answered: answered.size,
        answerMs: median === undefined ? null : tenths(median),
      });
    };
    within(loop, () => {
      association = upstream.associate({
        onOpen: () => {
          sentAt = performance.now();
          sent = send(loop, association as Association, plan);
          timer = setTimeout(() => within(loop, () => settle(null)), plan.patience);
        },
        onRefused: settle,
        onDatagram: (from, start, end) => {
          const { bytes } = loop.memory;
          const id =
            end - start < 2 ? -1 : ((bytes[start] as number) << 8) | (bytes[start + 1] as number);
          if (id >= sent || id < 0 || answered.has(id) || !from.sameAddress(plan.peer)) return;
          answered.add(id);
          times.push(performance.now() - sentAt);
          if (answered.size === sent) settle(null);
        },
        onLost: () => settle(null),
      });
    });
  });
}

function within(loop: Loop, work: () => void): void {
  loop.enter();
  try {
    work();
  } finally {
    loop.leave();
  }
}

/** How many of the datagrams of `plan` the association took. Within a turn. */
function send(loop: Loop, association: Association, plan: DatagramPlan): number {
  const { bytes, datagrams } = loop.memory;
  const to = { name: null, endpoint: new Endpoint().copy(plan.peer) };
  for (let id = 0; id < plan.count; id++) {
    const payload = plan.question === null ? echo(id) : question(id, plan.question);
    const at = datagrams.take(payload.length);
    if (at < 0) return id;
    bytes.set(payload, at);
    if (association.send(to, at, at + payload.length, 0)) continue;
    // Full: what waits leaves, and it is tried once more.
    association.flush();
    if (!association.send(to, at, at + payload.length, 0)) return id;
  }
  association.flush();
  return plan.count;
}

/** The number is in the two octets where a DNS message has its id. */
function echo(id: number): Uint8Array {
  const payload = Buffer.from(`..tun2socks probe ${id}`);
  payload.writeUInt16BE(id);
  return payload;
}

function question(id: number, name: string): Uint8Array {
  const { encode, RECURSION_DESIRED } = dnsPacket();
  return encode({ type: "query", id, flags: RECURSION_DESIRED, questions: [{ type: "A", name }] });
}
