/**
 * The public names of the stack.
 */

export { PagePool } from "./page-pool.ts";
export * from "./ports.ts";
export { Stack } from "./stack.ts";
export { StackStats } from "./stats.ts";
export { Timer, type TimerHandler, type Timers, TimerWheel } from "./timer-wheel.ts";
export {
  Endpoint,
  formatAddress,
  formatEndpoint,
  parseAddress,
} from "./wire/address.ts";
