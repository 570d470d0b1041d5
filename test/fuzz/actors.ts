/**
 * The relay's side in the fuzzer: takes, sends, refuses, shuts and aborts as its dice say, and checks what the
 * stack promises its handlers (src/stack/ports.ts).
 */

import type {
  CloseReason,
  RefuseReason,
  TcpConnection,
  TcpHandler,
  UdpFlow,
  UdpHandler,
} from "../../src/stack/ports.ts";
import type { Connection } from "../../src/stack/tcp/connection.ts";
import { Run } from "../../src/stack/tcp/flight.ts";
import { NONE } from "../../src/stack/tcp/ranges.ts";
import { type Endpoint, formatAddress } from "../../src/stack/wire/address.ts";
import { fillPattern, pattern, type StackDriver } from "../../src/testing/index.ts";
import type { Dice } from "./dice.ts";
import { Finding, flowKey, type Observer, type SeenFlow } from "./observer.ts";
import { streamOctet } from "./packet-view.ts";

const REASONS: readonly RefuseReason[] = [
  "reset",
  "net-unreachable",
  "host-unreachable",
  "prohibited",
  "ttl-exceeded",
  "port-unreachable",
];

export class TcpActor implements TcpHandler {
  readonly key: string;
  readonly #connection: TcpConnection;
  readonly #driver: StackDriver;
  readonly #observer: Observer;
  readonly #dice: Dice;
  readonly #rows: Int32Array = new Int32Array(64);
  /** Acts on events at once, not only between batches. */
  readonly #eager: boolean;
  #state: "pending" | "open" | "over" = "pending";
  #consumed = 0;
  #sent = 0;
  #unsent: number;
  #shut = false;
  /** The upstream has failed: what the client still sends goes nowhere. */
  #draining = false;
  #flow: SeenFlow | undefined;
  /** Octets of the whole stream, known at FIN. */
  #total = -1;

  constructor(connection: TcpConnection, driver: StackDriver, observer: Observer, dice: Dice) {
    this.#connection = connection;
    this.#driver = driver;
    this.#observer = observer;
    this.#dice = dice;
    this.#eager = dice.chance(0.5);
    this.#unsent = dice.chance(0.5) ? dice.below(3000) : dice.below(100_000);
    this.key = keyOf(connection.client, connection.target);
  }

  get over(): boolean {
    return this.#state === "over";
  }

  /** Between batches. */
  act(): void {
    const dice = this.#dice;
    if (this.#state === "pending") {
      if (dice.chance(0.7)) this.#accept();
      else if (dice.chance(0.1)) this.#refuse();
      return;
    }
    if (this.#state === "over") return;
    if (dice.chance(0.6)) this.#take(dice.chance(0.7) ? 1 << 30 : dice.below(5000));
    if (dice.chance(0.5)) this.#send();
    if (dice.chance(0.01)) this.#shutdown();
    const fate = dice.below(400);
    if (fate < 2) this.#end();
    else if (fate < 4) {
      this.#draining = true;
      this.#connection.resetWhenDrained();
    }
  }

  /** Ends what still lives. */
  close(): void {
    if (this.#state === "pending") this.#refuse();
    else if (this.#state === "open") this.#end();
  }

  /** The upstream has nothing more to send and takes everything. */
  windDown(): void {
    if (this.#state !== "open") return;
    this.#take(1 << 30);
    this.#shutdown();
  }

  /** What the stack acknowledged waits here or was consumed. @throws Finding */
  check(): void {
    if (this.#state !== "open" || this.#draining) return;
    const flow = this.#seen();
    if (flow === undefined) return;
    const held = this.#consumed + this.#connection.readableOctets;
    const acked = ((flow.ack - flow.irs - 1) | 0) - (this.#total >= 0 ? 1 : 0);
    if (acked > held) throw new Finding(`${this.key}: ${acked} acknowledged, ${held} delivered`);
    if (this.#total < 0) return;
    if (held !== this.#total) {
      throw new Finding(`${this.key}: ${held} octets of a stream that ended at ${this.#total}`);
    }
    // FIN is acknowledged at once, and takes one number; unless another's TIME-WAIT took this one's place.
    const isEvicted = (this.#connection as Connection).index < 0;
    if (acked !== this.#total && !isEvicted)
      throw new Finding(`${this.key}: FIN told, ${acked} acknowledged`);
  }

  /** What has to be true after every packet, and no packet shows. @throws Finding */
  inspect(): void {
    if (this.#state === "over") return;
    const { flight, rcvAdv, rcvNxt } = this.#connection as Connection;
    if (flight < 0) throw new Finding(`${this.key}: SND.UNA is ${-flight} beyond SND.NXT`);
    // FIN takes a number that the window did not offer.
    const beyond = (rcvNxt - rcvAdv) | 0;
    if (this.#state === "open" && this.#seen() !== undefined && beyond > 1) {
      throw new Finding(`${this.key}: RCV.NXT is ${beyond} beyond the window`);
    }
    this.#inspectFlight();
  }

  /** The runs of the flight are SND.UNA to SND.NXT without a hole, and its sums are theirs. */
  #inspectFlight(): void {
    const c = this.#connection as Connection;
    if (c.congestion === null) return;
    const { ranges } = c.context;
    let [at, sacked, lost] = [c.sndUna, 0, 0];
    for (let run = c.runHead; run !== NONE; run = ranges.next[run]!) {
      if (ranges.seq[run] !== at) throw new Finding(`${this.key}: a hole in the flight`);
      at = ranges.end[run]!;
      const octets = (at - ranges.seq[run]!) | 0;
      if (octets <= 0) throw new Finding(`${this.key}: a run of ${octets} octets`);
      if (ranges.page[run]! & Run.SACKED) sacked += octets;
      if (ranges.page[run]! & Run.LOST) lost += octets;
    }
    if (at !== c.sndNxt) throw new Finding(`${this.key}: a flight of other octets`);
    if (sacked !== c.sackedOctets || lost !== c.lostOctets) {
      throw new Finding(`${this.key}: ${c.sackedOctets} SACKed and ${c.lostOctets} lost`);
    }
  }

  /** Whether octets out of order are there; of a flow that is over nobody knows. */
  holds(left: number, right: number): boolean {
    if (this.#state === "over") return true;
    const c = this.#connection as Connection;
    const { ranges } = c.context;
    let at = left;
    for (let range = c.oooHead; range !== NONE && at !== right; range = ranges.next[range]!) {
      const offset = (at - ranges.seq[range]!) | 0;
      const length = ranges.end[range]! - ranges.start[range]!;
      if (offset < 0) return false;
      if (offset < length) at = (at + Math.min(length - offset, (right - at) | 0)) | 0;
    }
    return at === right;
  }

  onReadable(): void {
    this.#expectOpen("onReadable");
    if (this.#eager) this.#take(this.#dice.chance(0.8) ? 1 << 30 : this.#dice.below(2000));
    else this.#verify(1 << 30);
  }

  onFin(): void {
    this.#expectOpen("onFin");
    if (this.#total >= 0) throw new Finding(`${this.key}: a second onFin`);
    this.#total = this.#consumed + this.#connection.readableOctets;
    if (this.#eager && this.#dice.chance(0.5)) this.#shutdown();
  }

  onWritable(): void {
    this.#expectOpen("onWritable");
    if (this.#eager) this.#send();
  }

  onClosed(_reason: CloseReason): void {
    if (this.#state === "over") throw new Finding(`${this.key}: onClosed after the end`);
    this.#state = "over";
  }

  #expectOpen(event: string): void {
    if (this.#state !== "open") throw new Finding(`${this.key}: ${event} while ${this.#state}`);
  }

  /** This connection on the wire, once its SYN-ACK has left; a later one of the same ports is another. */
  #seen(): SeenFlow | undefined {
    this.#flow ??= this.#observer.flows.get(this.key);
    return this.#flow;
  }

  #accept(): void {
    this.#state = "open";
    // Of the one before, whose numbers this one may have if both opened within a millisecond.
    this.#observer.flows.delete(this.key);
    this.#connection.accept();
  }

  #refuse(): void {
    this.#state = "over";
    if (this.#dice.chance(0.3)) this.#connection.forget();
    else this.#connection.refuse(this.#dice.pick(REASONS));
  }

  #end(): void {
    this.#state = "over";
    this.#connection.abort();
  }

  #shutdown(): void {
    if (this.#shut) return;
    this.#shut = true;
    this.#connection.shutdown();
  }

  #take(most: number): void {
    for (let taken = 0; taken < most; ) {
      const octets = this.#verify(most - taken);
      if (octets === 0) return;
      this.#connection.consume(octets);
      this.#consumed += octets;
      taken += octets;
    }
  }

  /** Octets, at most `most`, the rows show; all of them are the client's. */
  #verify(most: number): number {
    const flow = this.#seen();
    const readable = this.#connection.readableOctets;
    const rows = this.#connection.readable(this.#rows);
    const bytes = this.#driver.memory.bytes;
    let octets = 0;
    for (let row = 0; row < rows; row++) {
      const start = this.#rows[2 * row]!;
      const length = Math.min(this.#rows[2 * row + 1]!, most - octets);
      if (flow === undefined) throw new Finding(`${this.key}: octets before the SYN-ACK`);
      const first = flow.irs + 1 + this.#consumed + octets;
      for (let i = 0; i < length; i++) {
        if (bytes[start + i] === streamOctet((first + i) >>> 0)) continue;
        throw new Finding(`${this.key}: octet ${this.#consumed + octets + i} is not the client's`);
      }
      octets += length;
    }
    if (octets > readable) throw new Finding(`${this.key}: ${octets} of ${readable} readable`);
    if (octets === 0 && readable > 0 && most > 0) throw new Finding(`${this.key}: no rows`);
    return octets;
  }

  #send(): void {
    if (this.#shut) return;
    if (this.#dice.chance(0.3)) this.#write(this.#dice.below(3000));
    else this.#fill();
    if (this.#unsent <= 0 && this.#dice.chance(0.1)) this.#shutdown();
  }

  #write(octets: number): void {
    const some = Math.min(octets, this.#unsent);
    const taken = this.#connection.write(pattern(1, this.#sent, some), 0, some);
    if (taken < 0 || taken > some) throw new Finding(`${this.key}: write took ${taken} of ${some}`);
    this.#sent += taken;
    this.#unsent -= taken;
  }

  #fill(): void {
    const rows = this.#connection.space(this.#rows);
    let filled = 0;
    for (let row = 0; row < rows && filled < this.#unsent; row++) {
      const start = this.#rows[2 * row]!;
      const octets = Math.min(this.#rows[2 * row + 1]!, this.#unsent - filled);
      fillPattern(1, this.#sent + filled, this.#driver.memory.bytes, start, start + octets);
      filled += octets;
    }
    if (rows > 0) this.#connection.commit(filled);
    this.#sent += filled;
    this.#unsent -= filled;
  }
}

export class UdpActor implements UdpHandler {
  readonly #flow: UdpFlow;
  readonly #driver: StackDriver;
  readonly #dice: Dice;
  #over = false;

  constructor(flow: UdpFlow, driver: StackDriver, dice: Dice) {
    this.#flow = flow;
    this.#driver = driver;
    this.#dice = dice;
  }

  onDatagram(target: Endpoint, start: number, end: number, segment: number): void {
    if (this.#over) throw new Finding("a datagram after the end of its flow");
    if (end < start || segment < 0) throw new Finding(`a datagram of ${end - start} octets`);
    const dice = this.#dice;
    switch (dice.below(12)) {
      case 0:
        this.#flow.refuse(target, dice.pick(REASONS));
        break;
      case 1:
        this.#flow.tooBig(target, dice.between(68, 9000));
        break;
      case 2:
        this.#flow.setTimeout(dice.below(600_000));
        break;
      case 3:
        if (!dice.chance(0.2)) break;
        this.#over = true;
        this.#flow.close();
        break;
      case 4:
      case 5:
      case 6:
        this.#answer(target);
    }
  }

  onBatchEnd(): void {
    if (this.#over) throw new Finding("onBatchEnd after the end of a flow");
  }

  onClosed(): void {
    if (this.#over) throw new Finding("onClosed after the end of a flow");
    this.#over = true;
  }

  #answer(from: Endpoint): void {
    const dice = this.#dice;
    const { datagrams } = this.#driver.memory;
    const octets = dice.chance(0.1) ? dice.below(66_000) : dice.below(1600);
    for (let n = dice.between(1, 4); n > 0; n--) {
      const at = datagrams.take(octets);
      if (at >= 0) this.#flow.send(from, at, at + octets);
    }
  }
}

function keyOf(client: Endpoint, target: Endpoint): string {
  return flowKey(formatAddress(client), client.port, formatAddress(target), target.port);
}
