/** `tun2socks listen`: connections that reach a proxy, brought to a server here (BIND). */

import { Command } from "commander";
import { Listener } from "../listen/listener.ts";
import { createLog, type LogLevel } from "../log.ts";
import { Loop } from "../loop.ts";
import { plainMemory } from "../memory.ts";
import { DIAL_DEADLINE } from "../socks/environment.ts";
import type { Destination } from "../socks/ports.ts";
import { parseProxyUrl } from "../socks/proxy-url.ts";
import { SCHEMES, type Scheme } from "../socks/schemes.ts";
import { SocksUpstream } from "../socks/upstream.ts";
import type { Endpoint } from "../stack/wire/address.ts";
import { standardError, standardOutput } from "./error-line.ts";
import { logLevel, value } from "./flags.ts";
import { STOPPED, stopSignal } from "./stop-signal.ts";
import { parseEndpoint, usage } from "./values.ts";

interface ListenFlags {
  readonly proxy?: string;
  readonly to?: Endpoint;
  readonly peer?: Endpoint;
  readonly once: boolean;
  readonly logLevel: LogLevel;
}

/** Protocols whose two replies to BIND are understood. */
const HAVE_BIND: readonly Scheme["protocol"][] = ["socks5", "socks4", "socks4a"];

export function listenCommand(setStatus: (status: number) => void): Command {
  return new Command("listen")
    .summary("a port at the proxy, brought to a server here (BIND)")
    .description("Has the proxy listen (BIND), and brings who connects there to a server here.")
    .option(
      "-p, --proxy <url>",
      "socks4|socks5[s]://[user:pass@]host[:port] ($ALL_PROXY)",
      value("-p", String),
    )
    .option(
      "--to <addr:port>",
      "the server here, for instance 127.0.0.1:2121",
      value("--to", parseServer),
    )
    .option(
      "--peer <addr>",
      "who is expected, where the proxy wants to know (default: anybody)",
      value("--peer", (text) => parseEndpoint(text, 0)),
    )
    .option("--once", "end after one connection", false)
    .addOption(logLevel())
    .addHelpText(
      "after",
      `
Prints ADDRESS:PORT each time the proxy begins to listen: that takes one
connection, and the next time it is mostly another port.
Exit status: 0 (by a signal, too), 2 usage, 69 upstream, 1 otherwise.`,
    )
    .action(async (flags: ListenFlags) => setStatus(await listen(flags)));
}

async function listen(flags: ListenFlags): Promise<number> {
  const { ALL_PROXY, all_proxy } = process.env;
  const text = flags.proxy ?? (ALL_PROXY || all_proxy || undefined);
  if (text === undefined) throw usage("no proxy given", "write -p socks5://host:port");
  if (flags.to === undefined) throw usage("no server given", "write --to 127.0.0.1:PORT");
  const url = parseProxyUrl(text);
  if (!HAVE_BIND.includes(SCHEMES[url.scheme].protocol)) {
    throw usage(
      `cannot listen by ${url.scheme}: only SOCKS5 and SOCKS4 have BIND`,
      "use socks5://host:port",
    );
  }
  const stopped = stopSignal();
  const log = createLog(flags.logLevel, standardError);
  const memory = plainMemory();
  const loop = new Loop(null, memory);
  const upstream = new SocksUpstream(url, {
    addon: null,
    poller: null,
    memory,
    timers: loop.timers,
    turn: loop,
    log,
    mark: 0,
    device: "",
    dialDeadline: DIAL_DEADLINE,
    pipeline: "off",
  });
  const peer: Destination | null =
    flags.peer === undefined ? null : { name: null, endpoint: flags.peer };
  const listener = new Listener(
    upstream,
    { to: flags.to, peer, once: flags.once },
    { timers: loop.timers, turn: loop, log, print: (address) => standardOutput(`${address}\n`) },
  );
  try {
    await upstream.resolve();
    const end = await Promise.race([stopped, listener.run()]);
    if (end === STOPPED || end === null) return 0;
    throw end.error;
  } finally {
    listener.close();
    upstream.close();
    loop.close();
  }
}

function parseServer(text: string): Endpoint {
  const endpoint = parseEndpoint(text, 0);
  if (endpoint.port === 0) throw usage(`"${text}" has no port`, "write 127.0.0.1:2121");
  return endpoint;
}
