/**
 * Levelled lines on standard error. A disabled level is `undefined`, so `log.debug?.(…)` costs nothing.
 */

export type LogLevel = "silent" | "error" | "warn" | "info" | "debug";

export const LOG_LEVELS: readonly LogLevel[] = ["silent", "error", "warn", "info", "debug"];

export interface Log {
  readonly error?: (line: string) => void;
  readonly warn?: (line: string) => void;
  readonly info?: (line: string) => void;
  readonly debug?: (line: string) => void;
}

/** A log that writes `tun2socks: LINE` to `write` for every level up to `level`. */
export function createLog(
  level: LogLevel,
  write: (line: string) => void = (line) => process.stderr.write(line),
): Log {
  const enabled = LOG_LEVELS.indexOf(level);
  const out = (line: string): void => write(`tun2socks: ${line}\n`);
  const log: { -readonly [K in keyof Log]: Log[K] } = {};
  for (const name of ["error", "warn", "info", "debug"] as const) {
    if (LOG_LEVELS.indexOf(name) <= enabled) log[name] = out;
  }
  return log;
}

/** A log that says nothing. */
export const SILENT: Log = {};

/** Lets one line through per `interval` ms and key; counts what it kept back. */
export class LogLimiter {
  readonly #interval: number;
  readonly #next = new Map<string, { due: number; kept: number }>();

  constructor(interval = 5000) {
    this.#interval = interval;
  }

  /**
   * Says how to log `key` at `now` (ms): null to stay silent, otherwise a suffix to append, empty or
   * telling how many were kept back since the last line.
   */
  pass(key: string, now: number): string | null {
    let entry = this.#next.get(key);
    if (entry !== undefined && now < entry.due) {
      entry.kept++;
      return null;
    }
    const kept = entry?.kept ?? 0;
    if (entry === undefined) {
      if (this.#next.size >= MAX_KEYS) this.#next.clear();
      entry = { due: 0, kept: 0 };
      this.#next.set(key, entry);
    }
    entry.due = now + this.#interval;
    entry.kept = 0;
    return kept > 0 ? ` (and ${kept} more)` : "";
  }
}

/** Distinct keys remembered; beyond it the limiter starts over. */
const MAX_KEYS = 256;
