/**
 * The states of a connection and the one table that changes them.
 *
 * The edges are those of RFC 9293 figure 5 that a passive opener can take; PENDING is LISTEN with a SYN in hand that
 * the relay has not answered yet. Resets, time-outs and aborts lead from anywhere to CLOSED.
 *
 *     PENDING ──ACCEPT──▶ SYN_RECEIVED ──ACK_OF_SYN──▶ ESTABLISHED
 *                                                       │        │
 *                                         CLOSE (FIN sent)     FIN (in order)
 *                                                       ▼        ▼
 *                        ┌──FIN── FIN_WAIT_1       CLOSE_WAIT
 *                        ▼            │ ACK_OF_FIN       │ CLOSE
 *                     CLOSING         ▼                  ▼
 *                        │        FIN_WAIT_2          LAST_ACK
 *              ACK_OF_FIN│            │ FIN              │ ACK_OF_FIN
 *                        └──▶ TIME_WAIT ◀┘               ▼
 *                                 └──────TIMEOUT─────▶ CLOSED
 */

export const State = {
  PENDING: 0,
  SYN_RECEIVED: 1,
  ESTABLISHED: 2,
  FIN_WAIT_1: 3,
  FIN_WAIT_2: 4,
  CLOSE_WAIT: 5,
  CLOSING: 6,
  LAST_ACK: 7,
  TIME_WAIT: 8,
  CLOSED: 9,
} as const;
export type State = (typeof State)[keyof typeof State];

export const Event = {
  /** The relay accepted the open. */
  ACCEPT: 0,
  ACK_OF_SYN: 1,
  /** Our FIN was sent. */
  CLOSE: 2,
  /** The client's FIN is in order. */
  FIN: 3,
  ACK_OF_FIN: 4,
  /** The 2 MSL timer expired. */
  TIMEOUT: 5,
  /** RST in either direction, retransmission limit, eviction. */
  ABORT: 6,
} as const;
export type Event = (typeof Event)[keyof typeof Event];

/** The state after `event`; -1: the event cannot happen in `state`. */
export function transition(state: State, event: Event): State | -1 {
  return TABLE[state * EVENTS + event] as State | -1;
}

/** The client's FIN has been taken: nothing more will be received. */
export function hasReceivedFin(state: State): boolean {
  return state >= State.CLOSE_WAIT;
}

/** Our FIN has been sent: SND.NXT is behind it. */
export function hasSentFin(state: State): boolean {
  return state >= State.FIN_WAIT_1 && state !== State.CLOSE_WAIT;
}

const EVENTS = 7;
const NO = -1;
const S = State;
const TABLE: Int8Array = Int8Array.from([
  // ACCEPT, ACK_OF_SYN, CLOSE, FIN, ACK_OF_FIN, TIMEOUT, ABORT
  ...[S.SYN_RECEIVED, NO, NO, NO, NO, NO, S.CLOSED], // PENDING
  ...[NO, S.ESTABLISHED, NO, NO, NO, NO, S.CLOSED], // SYN_RECEIVED
  ...[NO, NO, S.FIN_WAIT_1, S.CLOSE_WAIT, NO, NO, S.CLOSED], // ESTABLISHED
  ...[NO, NO, NO, S.CLOSING, S.FIN_WAIT_2, NO, S.CLOSED], // FIN_WAIT_1
  ...[NO, NO, NO, S.TIME_WAIT, NO, NO, S.CLOSED], // FIN_WAIT_2
  ...[NO, NO, S.LAST_ACK, NO, NO, NO, S.CLOSED], // CLOSE_WAIT
  ...[NO, NO, NO, NO, S.TIME_WAIT, NO, S.CLOSED], // CLOSING
  ...[NO, NO, NO, NO, S.CLOSED, NO, S.CLOSED], // LAST_ACK
  ...[NO, NO, NO, NO, NO, S.CLOSED, S.CLOSED], // TIME_WAIT
  ...[NO, NO, NO, NO, NO, NO, NO], // CLOSED
]);
