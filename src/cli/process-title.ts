/** The process's title: its arguments as other users see them (ps, /proc/PID/cmdline), without credentials. */

import { withoutCredentials } from "../socks/proxy-url.ts";

/**
 * Covers the passwords among our own arguments. What `exec` runs stands behind `--` and is left alone: its own arguments
 * show it.
 */
export function hideCredentials(argv: readonly string[]): void {
  const title = titleOf(argv);
  if (title !== null) process.title = title;
}

/** The title for arguments that hold credentials; null: these hold none. */
export function titleOf(argv: readonly string[]): string | null {
  const end = argv.indexOf("--");
  const own = end < 0 ? argv : argv.slice(0, end);
  // What `probe` is given is a proxy, wherever it stands.
  const shown = own.map((word, i) => cover(word, own[0] === "probe" ? "-p" : (own[i - 1] ?? "")));
  if (shown.every((word, i) => word === own[i])) return null;
  return ["tun2socks", ...shown, ...argv.slice(own.length)].join(" ");
}

function cover(word: string, before: string): string {
  if (before === "--user") return word.replace(/:.*/s, ":***");
  const flag = /^(?:-p|--[\w-]+=)/.exec(word)?.[0] ?? "";
  if (flag === "--user=") return word.replace(/:.*/s, ":***");
  const value = word.slice(flag.length);
  // A flag that was mistyped may hold a URL, too.
  const isProxy = ["-p", "--proxy", "--proxy="].some((name) => name === flag || name === before);
  return isProxy || value.includes("://") ? flag + withoutCredentials(value, "***@") : word;
}
