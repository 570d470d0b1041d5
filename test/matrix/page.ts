/** docs/socks.md, from what was seen. */

import { CLIENT_COLUMNS, type ClientCells, type ClientRow } from "./clients.ts";
import { type Cells, COLUMNS } from "./columns.ts";
import type { ServerRow } from "./servers.ts";

export function socksPage(
  servers: readonly ServerRow[],
  seen: ReadonlyMap<string, Cells>,
  clients: readonly ClientRow[],
  seenByClients: ReadonlyMap<string, ClientCells>,
): string {
  return [
    "# Proxies and programs that were tried",
    "",
    "Written by `npm run test:socks -- -u`, which starts each of these programs and tries everything with it;",
    "`npm run test:socks` fails when something else is seen than stands here. The programs are Debian's.",
    "",
    "## Our client with the servers of others",
    "",
    "Through `tun2socks exec`, as a program in it sees it. What is not *yes* is what the program got instead: the errno of",
    "connect(2) or of the socket ([refusals](refusals.md)), *closed* for an end without an octet, or how `exec` ended",
    "([errors](errors.md)).",
    "",
    ...table(COLUMNS, servers, seen),
    "",
    "## Our server with the programs of others",
    "",
    "With `tun2socks proxy`. – is what the program has no way to ask for.",
    "",
    ...table(CLIENT_COLUMNS, clients, seenByClients),
    "",
  ].join("\n");
}

/** A row for each thing that was tried, a column for each peer. */
function table<Column extends string>(
  columns: Readonly<Record<Column, string>>,
  peers: ReadonlyArray<{ readonly name: string }>,
  seen: ReadonlyMap<string, Readonly<Record<Column, string>>>,
): string[] {
  const row = (cells: readonly string[]): string => `| ${cells.join(" | ")} |`;
  return [
    row(["", ...peers.map(({ name }) => name)]),
    row(["---", ...peers.map(() => "---")]),
    ...(Object.keys(columns) as Column[]).map((column) =>
      row([columns[column], ...peers.map(({ name }) => seen.get(name)?.[column] ?? "")]),
    ),
  ];
}
