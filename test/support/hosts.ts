/** Names that only some programs of a world know: a hosts file of the test's in the place of /etc/hosts. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { World } from "./world.ts";

/** Wraps a command: `ip netns exec` gives it mounts of its own, so nobody else sees the file. */
export function withHosts(
  world: World,
  lines: readonly string[],
): (argv: readonly string[]) => readonly string[] {
  const hosts = join(world.directory, "hosts");
  writeFileSync(hosts, `127.0.0.1 localhost\n${lines.map((line) => `${line}\n`).join("")}`);
  const mount = `mount --bind ${hosts} /etc/hosts && exec "$@"`;
  return (argv) => ["sh", "-c", mount, "sh", ...argv];
}
