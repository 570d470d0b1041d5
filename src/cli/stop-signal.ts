/** The end of a command that serves until it is told to stop. */

const SIGNALS = ["SIGINT", "SIGTERM"] as const;

/** What {@link stopSignal} resolves with, to be told from what it races with. */
export const STOPPED: unique symbol = Symbol("stopped");

/** Resolves at the first SIGINT or SIGTERM; a second one ends the process at once, as the default does. */
export function stopSignal(): Promise<typeof STOPPED> {
  return new Promise((resolve) => {
    const stop = (): void => {
      for (const signal of SIGNALS) process.off(signal, stop);
      resolve(STOPPED);
    };
    for (const signal of SIGNALS) process.on(signal, stop);
  });
}
