/** docs/socks.md, from what was seen. */

import { type Cells, COLUMNS, type Column } from "./columns.ts";
import type { ServerRow } from "./servers.ts";

export function socksPage(servers: readonly ServerRow[], seen: ReadonlyMap<string, Cells>): string {
  const columns = Object.keys(COLUMNS) as Column[];
  const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [
    "# Proxies and programs that were tried",
    "",
    "Written by `npm run test:socks -- -u`, which starts each of these programs and tries everything with it;",
    "`npm run test:socks` fails when something else is seen than stands here. The programs are Debian's.",
    "",
    "## Our client with the servers of others",
    "",
    "Through `tun2socks exec`, as a program in it sees it. What is not *yes* is what the program got instead: the errno of",
    "connect(2) or of the socket ([refusals](refusals.md)), or how `exec` ended ([errors](errors.md)).",
    "",
    row(["", ...servers.map(({ name }) => name)]),
    row(["---", ...servers.map(() => "---")]),
    ...columns.map((column) =>
      row([COLUMNS[column], ...servers.map(({ name }) => seen.get(name)?.[column] ?? "")]),
    ),
    "",
  ].join("\n");
}
