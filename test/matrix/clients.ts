/** Programs of others as clients of our server: how each is told of a proxy. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { fixture, SERVER_IPV4, type World } from "../support/world.ts";

export const CLIENT_COLUMNS = {
  v4: "IPv4",
  v6: "IPv6",
  name: "name",
  refused: "refused is refused",
  transfer: "1 MiB",
  password: "password",
  wrong: "wrong password",
  udp: "UDP",
} as const;
export type ClientColumn = keyof typeof CLIENT_COLUMNS;
export type ClientCells = Readonly<Record<ClientColumn, string>>;

/** What is seen where all is well. */
export const CLIENT_USUAL = {
  ...(Object.fromEntries(
    Object.keys(CLIENT_COLUMNS).map((column) => [column, "yes"]),
  ) as ClientCells),
  wrong: "refused",
};

/** One thing to do through the proxy at `port` of {@link SERVER_IPV4}. */
export interface Errand {
  readonly world: World;
  readonly proxyPort: number;
  /** "user:password", "": none. */
  readonly credentials: string;
  readonly host: string;
  /** Of an echo; HTTP is on the one that {@link WEB} names. */
  readonly port: number;
  /** Octets of an echo, at least 4. */
  readonly octets: number;
  readonly transport: "tcp" | "udp";
  /** How ssh logs in. */
  readonly ssh: readonly string[];
}

export interface ClientRow {
  readonly name: string;
  readonly programs: readonly string[];
  /** What is seen where it is not "yes": part of what the program prints, or "–": it cannot be asked for that. */
  readonly instead: Partial<Record<ClientColumn, string>>;
  /** What the program prints when it was refused, and when the password was wrong. */
  readonly refusal: RegExp;
  readonly denial: RegExp;
  /** The command; it prints "yes" if all went well. */
  argv(errand: Errand): readonly string[];
}

/** The port of web.js. */
export const WEB = 8080;

/** Octets of a download, hashed on both ends: prints "yes", or curl's exit status. */
function download(curl: string, { host, port, octets }: Errand): readonly string[] {
  const authority = `${host.includes(":") ? `[${host}]` : host}:${port}`;
  return [
    "sh",
    "-c",
    `hash=$(${curl} http://${authority}/sha256/${octets}) || { echo "exit $?"; exit; }
     got=$(${curl} http://${authority}/${octets} | sha256sum)
     [ "$hash" = "\${got%% *}" ] && echo yes || echo wrong`,
  ];
}

function curl(flag: string, errand: Errand): readonly string[] {
  const user = errand.credentials === "" ? "" : `--proxy-user ${errand.credentials}`;
  const proxy = `${flag} ${SERVER_IPV4}:${errand.proxyPort} ${user}`;
  return download(`curl -sS --max-time 20 --noproxy '' ${proxy}`, errand);
}

/** An echo by standard input and output of `command`. */
function echo(command: string, { octets }: Errand): readonly string[] {
  const make = `head -c ${octets} /dev/zero | tr '\\0' x`;
  return [
    "sh",
    "-c",
    `got=$(${make} | ${command} | sha256sum)
     [ "$got" = "$(${make} | sha256sum)" ] && echo yes || echo failed`,
  ];
}

function ncat(
  { proxyPort, credentials, host }: Errand,
  port: number | string,
  type: string,
): string {
  const auth = credentials === "" ? "" : `--proxy-auth ${credentials}`;
  const proxy = `--proxy ${SERVER_IPV4}:${proxyPort} --proxy-type ${type} --proxy-dns remote`;
  return `ncat ${proxy} ${auth} ${host} ${port}`;
}

let made = 0;

function proxychains(errand: Errand): readonly string[] {
  const { world, proxyPort, credentials } = errand;
  const file = join(world.directory, `proxychains-${made++}.conf`);
  const proxy = `socks5 ${SERVER_IPV4} ${proxyPort} ${credentials.replace(":", " ")}`;
  writeFileSync(file, `strict_chain\nproxy_dns\n[ProxyList]\n${proxy}\n`);
  return download(`proxychains4 -q -f ${file} curl -sS --max-time 20 --noproxy ''`, errand);
}

function pysocks(kind: string, errand: Errand): readonly string[] {
  const { proxyPort, credentials, host, port, octets, transport } = errand;
  const [user = "", password = ""] = credentials.split(":");
  return [
    ...["/usr/bin/python3", fixture("peer-pysocks.py"), kind, SERVER_IPV4, `${proxyPort}`],
    ...[user, password, transport, host, `${port}`, `${octets}`],
  ];
}

const NO_UDP = { udp: "–" };
/** curl's CURLE_PROXY. */
const CURL = { refusal: /^exit 97$/, denial: /^exit 97$/ };

export const CLIENTS: readonly ClientRow[] = [
  {
    name: "curl --socks4",
    programs: ["curl"],
    instead: { ...NO_UDP, v6: "–", name: "–", password: "–" },
    ...CURL,
    argv: (errand) => curl("--socks4", errand),
  },
  {
    name: "curl --socks4a",
    programs: ["curl"],
    instead: { ...NO_UDP, v6: "–", password: "–" },
    ...CURL,
    argv: (errand) => curl("--socks4a", errand),
  },
  {
    name: "curl --socks5",
    programs: ["curl"],
    instead: { ...NO_UDP, name: "–" },
    ...CURL,
    argv: (errand) => curl("--socks5", errand),
  },
  {
    name: "curl --socks5-hostname",
    programs: ["curl"],
    instead: NO_UDP,
    ...CURL,
    argv: (errand) => curl("--socks5-hostname", errand),
  },
  {
    name: "ncat",
    programs: ["ncat"],
    instead: NO_UDP,
    refusal: /^failed$/,
    denial: /^failed$/,
    argv: (errand) => echo(ncat(errand, errand.port, "socks5"), errand),
  },
  {
    name: "ncat, SOCKS4",
    programs: ["ncat"],
    instead: { ...NO_UDP, v6: "–", password: "–" },
    refusal: /^failed$/,
    denial: /^failed$/,
    argv: (errand) => echo(ncat(errand, errand.port, "socks4"), errand),
  },
  {
    name: "proxychains4 curl",
    programs: ["proxychains4", "curl"],
    instead: NO_UDP,
    refusal: /^exit 7$/,
    denial: /^exit 7$/,
    argv: proxychains,
  },
  {
    name: "ssh by ncat",
    programs: ["ssh", "sshd", "ncat"],
    instead: NO_UDP,
    refusal: /^failed$/,
    denial: /^failed$/,
    argv(errand) {
      const proxy = ncat({ ...errand, host: "%h" }, "%p", "socks5");
      const login = errand.ssh.join(" ");
      return echo(`ssh ${login} -o 'ProxyCommand=${proxy}' root@${errand.host} cat`, errand);
    },
  },
  {
    name: "PySocks",
    programs: ["python3-socks"],
    instead: {},
    refusal: /0x05: Connection refused/,
    denial: /authentication failed/i,
    argv: (errand) => pysocks("socks5", errand),
  },
  {
    name: "PySocks, SOCKS4",
    programs: ["python3-socks"],
    instead: { ...NO_UDP, v6: "–", password: "–" },
    refusal: /0x5b/,
    denial: /0x5d/,
    argv: (errand) => pysocks("socks4", errand),
  },
];
