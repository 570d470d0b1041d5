/**
 * The flight: every octet from SND.UNA to SND.NXT (FIN counts as one), when it was sent last and what became of it.
 *
 * An ordered list of runs without holes, which is scoreboard (RFC 6675 §3) and transmission times (RFC 8985 §5.1)
 * in one. A run is what was sent within one millisecond, however many segments that were; `seq` and `end` are
 * its edges, `start` the time, `page` its flags. Runs that say the same are joined.
 *
 * Times are sixteenths of a millisecond, of which the whole ones are the clock's; the rest counts how often first
 * transmissions and retransmissions took turns within one. So of two runs the later time left later, and of two
 * with one time the higher sequence number.
 *
 * Bounded: beyond MAX_RUNS what is sent joins the last run, as if all of it were sent now (losses are found later,
 * never too early), and a client that reports more holes than leave SPARE_RUNS is believed no further.
 */

import type { Connection } from "./connection.ts";
import { NONE } from "./ranges.ts";
import { seqAfter, seqBefore, seqMax } from "./seq.ts";

/** What is being repaired. */
export const Recovery = {
  NONE: 0,
  /** A loss that was found by the client's ACKs (RFC 8985, RFC 6582). */
  FAST: 1,
  /** After the retransmission timer (RFC 5681 §3.1). */
  LOSS: 2,
} as const;
export type Recovery = (typeof Recovery)[keyof typeof Recovery];

/** What is known of a run. */
export const Run = {
  /** The client has it. */
  SACKED: 1,
  /** It left the network without arriving, and was not sent again since. */
  LOST: 2,
  /** It was sent more than once. */
  RETRANSMITTED: 4,
} as const;

export const MAX_RUNS = 768;
/** Runs that SACK does not use up: room for what is sent and sent again. */
export const SPARE_RUNS = 256;

/** Whether {@link sent} has a run for more octets. */
export function canSend(c: Connection): boolean {
  const { ranges } = c.context;
  if (c.runTail !== NONE && ranges.page[c.runTail] === 0) return true;
  return c.runCount < MAX_RUNS && !ranges.isFull;
}

/** [seq, end), which follow SND.NXT, leave now. Only when {@link canSend}. */
export function sent(c: Connection, seq: number, end: number): void {
  const { ranges } = c.context;
  const now = stamp(c, false);
  const tail = c.runTail;
  if (tail !== NONE && ranges.page[tail] === 0) {
    if (ranges.start[tail] === now || c.runCount >= MAX_RUNS || ranges.isFull) {
      ranges.start[tail] = now;
      ranges.end[tail] = end;
      return;
    }
  }
  const run = ranges.take(seq, now, end, 0);
  if (tail === NONE) {
    c.runHead = run;
    // After 37 hours without a flight the last arrival would be later than whatever comes.
    c.rack.start(seq, now);
  } else {
    ranges.next[tail] = run;
  }
  c.runTail = run;
  c.runCount++;
}

/** `run` leaves again. */
export function resent(c: Connection, run: number): void {
  c.context.ranges.start[run] = stamp(c, true);
  mark(c, run, Run.RETRANSMITTED);
}

/** How long ago a run was sent, ms. */
export function age(c: Connection, run: number): number {
  return (((c.context.timers.now() << 4) - c.context.ranges.start[run] + 15) | 0) >> 4;
}

/** The first run that waits to be sent again; {@link NONE}: there is none. */
export function firstLost(c: Connection): number {
  if (c.lostOctets === 0) return NONE;
  const { ranges } = c.context;
  let run = c.runHead;
  while (run !== NONE && !(ranges.page[run] & Run.LOST)) run = ranges.next[run];
  return run;
}

/** Gives a run new flags. */
export function mark(c: Connection, run: number, flags: number): void {
  const { ranges } = c.context;
  const octets = (ranges.end[run] - ranges.seq[run]) | 0;
  const before = ranges.page[run];
  if (before & Run.SACKED) c.sackedOctets -= octets;
  if (before & Run.LOST) c.lostOctets -= octets;
  if (flags & Run.SACKED) c.sackedOctets += octets;
  if (flags & Run.LOST) c.lostOctets += octets;
  ranges.page[run] = flags;
}

/** Cuts a run so that another begins at `seq` inside it. False: `spare` runs would not remain. */
export function split(c: Connection, run: number, seq: number, spare: number): boolean {
  const { ranges } = c.context;
  if (c.runCount >= MAX_RUNS - spare) return false;
  const rest = ranges.take(seq, ranges.start[run], ranges.end[run], ranges.page[run]);
  if (rest === NONE) return false;
  ranges.end[run] = seq;
  ranges.next[rest] = ranges.next[run];
  ranges.next[run] = rest;
  if (c.runTail === run) c.runTail = rest;
  c.runCount++;
  return true;
}

/** Takes octets off the head: SND.UNA is at `una`, which is in the head run or at its end. */
export function shift(c: Connection, una: number): void {
  const { ranges } = c.context;
  const run = c.runHead;
  const flags = ranges.page[run];
  const octets = (una - ranges.seq[run]) | 0;
  if (flags & Run.SACKED) c.sackedOctets -= octets;
  if (flags & Run.LOST) c.lostOctets -= octets;
  ranges.seq[run] = una;
  if (seqBefore(una, ranges.end[run])) return;
  c.runHead = ranges.next[run];
  if (c.runHead === NONE) c.runTail = NONE;
  c.runCount--;
  ranges.give(run);
}

/** Joins neighbours that say the same. */
export function join(c: Connection): void {
  const { ranges } = c.context;
  for (let run = c.runHead; run !== NONE; ) {
    const next = ranges.next[run];
    if (next === NONE) return;
    if (!isAlike(c, run, next)) {
      run = next;
      continue;
    }
    ranges.start[run] = seqMax(ranges.start[run], ranges.start[next]);
    ranges.end[run] = ranges.end[next];
    ranges.next[run] = ranges.next[next];
    if (c.runTail === next) c.runTail = run;
    c.runCount--;
    ranges.give(next);
  }
}

/** The first `octets` are lost. */
export function loseHead(c: Connection, octets: number): void {
  const { ranges } = c.context;
  const run = c.runHead;
  if (run === NONE || ranges.page[run] & (Run.SACKED | Run.LOST)) return;
  const end = (c.sndUna + octets) | 0;
  // Without a run for the rest all of it is sent again.
  if (seqAfter(ranges.end[run], end)) split(c, run, end, 0);
  mark(c, run, ranges.page[run] | Run.LOST);
}

/** What waited to be sent again is in flight after all. */
export function findLost(c: Connection): void {
  const { ranges } = c.context;
  for (let run = c.runHead; run !== NONE; run = ranges.next[run]) {
    if (ranges.page[run] & Run.LOST) mark(c, run, ranges.page[run] & ~Run.LOST);
  }
  join(c);
}

/** Nothing is in flight any more. */
export function clear(c: Connection): void {
  const { ranges } = c.context;
  for (let run = c.runHead; run !== NONE; ) {
    const next = ranges.next[run];
    ranges.give(run);
    run = next;
  }
  c.runHead = NONE;
  c.runTail = NONE;
  c.runCount = 0;
  c.sackedOctets = 0;
  c.lostOctets = 0;
}

/** The time of what leaves now. */
function stamp(c: Connection, isRepeat: boolean): number {
  const { rack } = c;
  const now = c.context.timers.now() << 4;
  if (now >> 4 !== rack.clock >> 4) rack.clock = now;
  else if (isRepeat !== rack.isClockOfRepeat && (rack.clock & 15) < 15) rack.clock++;
  rack.isClockOfRepeat = isRepeat;
  return rack.clock;
}

/** The time of what was SACKed or lost says nothing any more. */
function isAlike(c: Connection, run: number, next: number): boolean {
  const { ranges } = c.context;
  const flags = ranges.page[run];
  if (flags !== ranges.page[next]) return false;
  return (flags & (Run.SACKED | Run.LOST)) !== 0 || ranges.start[run] === ranges.start[next];
}
