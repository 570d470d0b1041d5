/**
 * The SOCKS and DNS messages under seeded damage: nothing throws, nothing reads beyond what it was given, and a
 * message cut in any way means what it means whole.
 */

import {
  advertisedSize,
  answers,
  asksFor,
  emptyAnswer,
  isQuery,
  questionEnd,
  questionText,
  Rcode,
  tryDecode,
  wireName,
} from "../../src/relay/dns-message.ts";
import { Handshake } from "../../src/socks/handshake.ts";
import {
  addressNeed,
  Command,
  credentialsNeed,
  greetingNeed,
  greetingOffers,
  readAddress,
  readName,
  readUdpHeader,
  requestNeed,
  writeUdpHeader,
} from "../../src/socks/message.ts";
import { NO_COMMAND } from "../../src/socks/proxy-handshake.ts";
import { Endpoint, formatEndpoint } from "../../src/stack/wire/address.ts";
import type { Dice } from "./dice.ts";
import { Finding } from "./observer.ts";

const NAME = wireName("example.com");
const QUERY = Uint8Array.of(0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, ...NAME, 0, 1, 0, 1);
const ANSWER = Uint8Array.of(
  ...[0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1, 0, 0, 0, 0, ...NAME, 0, 1, 0, 1],
  ...[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1],
);
const STREAMS: readonly Uint8Array[] = [
  Uint8Array.of(5, 0, 5, 0, 0, 1, 127, 0, 0, 1, 0, 80),
  Uint8Array.of(5, 2, 1, 0, 5, 0, 0, 4, ...new Array(16).fill(7), 0, 80),
  Uint8Array.of(5, 0, 5, 0, 0, 3, 4, 0x61, 0x2e, 0x62, 0x63, 0, 80, 1, 2, 3),
  Uint8Array.of(5, 2, 5, 0, 5, 4, 0, 1, 0, 0, 0, 0, 0, 0),
];

/** One round. @throws Finding, or what the code under test throws */
export function runCodecs(dice: Dice): void {
  handshakes(dice);
  headers(dice);
  dns(dice);
}

/** Some octets changed, some cut off, some appended, some repeated. */
function damaged(dice: Dice, octets: Uint8Array): Uint8Array {
  let result = octets.slice();
  for (let n = dice.below(4); n > 0; n--) {
    const at = dice.below(result.length + 1);
    switch (dice.below(4)) {
      case 0:
        if (at < result.length) result[at] = dice.awkward();
        break;
      case 1:
        result = result.slice(0, at);
        break;
      case 2:
        result = Uint8Array.of(...result.subarray(0, at), ...dice.octets(dice.below(300)));
        break;
      default:
        result = Uint8Array.of(...result, ...result.subarray(at));
    }
  }
  return result;
}

function handshakes(dice: Dice): void {
  const stream = damaged(dice, dice.pick(STREAMS));
  const credentials = dice.chance(0.5)
    ? { user: dice.octets(3), password: dice.octets(255) }
    : null;
  const command = dice.pick([Command.CONNECT, Command.UDP_ASSOCIATE, NO_COMMAND]);
  const name = dice.pick([null, "a.example", "x".repeat(dice.below(300))]);
  const play = (next: () => number): string => {
    const handshake = new Handshake();
    handshake.begin("p", credentials, command, name, new Endpoint());
    const out = new Uint8Array(1024);
    let taken = 0;
    for (let arrived = 0; ; ) {
      for (let sends = 0; handshake.write(out, 0) > 0; sends++) {
        if (sends > 3) throw new Finding("a handshake that never stops writing");
        handshake.written();
      }
      if (handshake.need === 0) break;
      if (taken === arrived) {
        if (arrived === stream.length) break;
        arrived = Math.min(stream.length, arrived + next());
      }
      const { need } = handshake;
      const took = handshake.read(stream, taken, arrived);
      if (took < 1 || took > arrived - taken) throw new Finding(`took ${took}, needed ${need}`);
      taken += took;
    }
    handshake.end();
    const { granted, refusal, boundName, bound } = handshake;
    if (granted === (refusal !== null)) throw new Finding("neither granted nor refused");
    const message = refusal?.error.message ?? "";
    if (message.includes("\n")) throw new Finding("a refusal of two lines");
    return `${granted ? `${taken} ${boundName} ${formatEndpoint(bound)}` : message}`;
  };
  const whole = play(() => stream.length);
  const cut = play(() => dice.between(1, 5));
  if (whole !== cut) throw new Finding(`a handshake means ${whole} whole and ${cut} in pieces`);
}

function headers(dice: Dice): void {
  const into = new Endpoint();
  const written = new Uint8Array(300);
  const target = new Endpoint().set(0, 0, dice.pick([0, 0xffff]), dice.below(2 ** 31), 53);
  const name = dice.pick([null, "example.com"]);
  const length = writeUdpHeader(written, 0, name, target);
  const bytes = damaged(dice, written.subarray(0, length));
  const end = bytes.length;
  const data = readUdpHeader(bytes, 0, end, into);
  if (data > end || (data >= 0 && data < 7)) throw new Finding(`UDP data at ${data} of ${end}`);
  const start = dice.below(end + 1);
  const after = readAddress(bytes, start, end, into);
  if (after > end) throw new Finding(`an address up to ${after} of ${end}`);
  if (after >= 0) readName(bytes, start);
  for (const need of [addressNeed, requestNeed, greetingNeed, credentialsNeed]) {
    const octets = need(bytes, start, end);
    if (octets === 0 || octets < -1 || octets > 520) throw new Finding(`${need.name}: ${octets}`);
  }
  if (greetingNeed(bytes, start, end) <= end - start) greetingOffers(bytes, start, 2);
}

function dns(dice: Dice): void {
  const query = damaged(dice, QUERY);
  const answer = damaged(dice, ANSWER);
  const start = dice.below(2);
  for (const message of [query, answer]) {
    if (message.length < start) continue;
    const stop = questionEnd(message, start, message.length);
    if (stop > message.length) throw new Finding(`a question up to ${stop} of ${message.length}`);
    tryDecode(message);
  }
  if (isQuery(query, 0, query.length)) {
    asksFor(query, 0, NAME);
    if (questionText(query, 0, query.length).includes("\n")) throw new Finding("a name's newline");
    answers(query, answer, 0, answer.length);
    if (advertisedSize(query) < 512) throw new Finding("an answer of less than 512 octets");
    const empty = emptyAnswer(query, Rcode.SERVFAIL, dice.chance(0.5));
    if (!answers(query, empty, 0, empty.length)) throw new Finding("an answer to something else");
  }
}
