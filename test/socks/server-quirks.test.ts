/** Servers as they are: what each is known to do that RFC 1928 does not say, and what comes of it. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "vitest";
import {
  CONNECT,
  closeServers,
  descriptors,
  GRANT,
  open,
  type Peer,
  Recorder,
  ScriptedServer,
  SHAPES,
  timers,
  until,
} from "./client-harness.ts";
import { AssociationClient, EchoRelay } from "./fixtures/association-client.ts";

const ASSOCIATE = "05030001000000000000";
const ECHO = ["192.0.2.1:80", Buffer.from("hello").toString("hex")];

const relay = new EchoRelay();
beforeAll(() => relay.open());
afterAll(() => relay.close());
afterEach(closeServers);

interface Quirk {
  readonly server: string;
  readonly does: string;
  /** "me:pw@" */
  readonly credentials?: string;
  readonly command: "CONNECT" | "UDP ASSOCIATE";
  plays(peer: Peer, relayPort: string): Promise<void> | void;
  /** The events of a stream, or `kind reply` of a refusal. An association is "echo" when datagrams come back. */
  readonly comes: string | RegExp;
}

/** The negotiation without credentials, and the request. */
async function asked(peer: Peer, request = CONNECT): Promise<void> {
  await peer.expects("050100");
  peer.send("0500");
  await peer.expects(request);
}

/** Refuses a request with `reply` and then says nothing more, and does not close either. */
const refuses =
  (request: string, reply: string) =>
  async (peer: Peer): Promise<void> => {
    await asked(peer, request);
    peer.send(reply);
  };

const QUIRKS: readonly Quirk[] = [
  {
    server: "OpenSSH",
    does: "grants before it knows, and closes without an octet",
    command: "CONNECT",
    async plays(peer) {
      await asked(peer);
      peer.send(GRANT);
      await until("it is open", () => peer.fate === "");
      peer.socket.end();
    },
    comes: "open, end",
  },
  {
    server: "OpenSSH",
    does: "closes at a command that it does not know",
    command: "UDP ASSOCIATE",
    async plays(peer) {
      await asked(peer, ASSOCIATE);
      peer.socket.end();
    },
    comes: /^reply 7: .*does it do UDP/,
  },
  ...["f0", "f1", "f2", "f3", "f4", "f5", "f6", "f7"].map((code) => ({
    server: "Tor",
    does: `refuses with ${code}`,
    command: "CONNECT" as const,
    plays: refuses(CONNECT, `05${code}0001000000000000`),
    comes: new RegExp(`^reply ${Number.parseInt(code, 16)}: .*onion service .*\\(${code}\\)`, "i"),
  })),
  {
    server: "Tor",
    does: "answers UDP with a general failure",
    command: "UDP ASSOCIATE",
    plays: refuses(ASSOCIATE, "05010001000000000000"),
    comes: /^reply 1: /,
  },
  {
    server: "Dante",
    does: "refuses by its rules",
    command: "CONNECT",
    plays: refuses(CONNECT, "05020001000000000000"),
    comes: /^reply 2: .*ruleset/,
  },
  {
    server: "Dante",
    does: "has no UDP for the family",
    command: "UDP ASSOCIATE",
    plays: refuses(ASSOCIATE, "05080001000000000000"),
    comes: /^reply 8: /,
  },
  {
    server: "shadowsocks",
    does: "closes the control connection at once and relays on",
    command: "UDP ASSOCIATE",
    async plays(peer, port) {
      await asked(peer, ASSOCIATE);
      peer.send(`050000017f000001${port}`);
      peer.socket.end();
    },
    comes: "echo",
  },
  {
    server: "shadowsocks",
    does: "gives port 0 for a relay that it has not",
    command: "UDP ASSOCIATE",
    plays: refuses(ASSOCIATE, "050000017f0000010000"),
    comes: /^reply 7: .*enable UDP/,
  },
  {
    server: "microsocks",
    does: "takes each read for one message",
    credentials: "me:pw@",
    command: "CONNECT",
    async plays(peer) {
      const reads: string[] = [];
      peer.socket.on("data", (chunk: Buffer) => reads.push(chunk.toString("hex")));
      for (const [message, answer] of [
        ["050102", "0502"],
        ["01026d65027077", "0100"],
        [CONNECT, GRANT],
      ] as const) {
        await until(message, () => reads.length > 0);
        peer.send(reads.shift() === message ? answer : "05ff");
      }
      peer.socket.end("pong");
    },
    comes: "open, pong, end",
  },
  {
    server: "microsocks",
    does: "says 06 for a destination that does not answer",
    command: "CONNECT",
    plays: refuses(CONNECT, "05060001000000000000"),
    comes: /^reply 6: .*TTL expired/,
  },
  {
    server: "3proxy, Tor",
    does: "chooses passwords where both methods are offered",
    command: "CONNECT",
    async plays(peer) {
      await until("a greeting", () => peer.received.length >= 3);
      peer.send(peer.received.subarray(2).includes(2) ? "0502" : "0500");
      await peer.expects(`050100${CONNECT}`);
      peer.send(GRANT);
      peer.socket.end();
    },
    comes: "open, end",
  },
  {
    server: "hev-socks5-server, Dante",
    does: "wants zeros, or the client's own source, in the request of an association",
    command: "UDP ASSOCIATE",
    async plays(peer, port) {
      await peer.expects("050100");
      peer.send("0500");
      await until("the request", () => peer.received.length >= 10);
      const isZero = peer.received.subarray(4, 10).every((octet) => octet === 0);
      peer.send(isZero ? `050000017f000001${port}` : "05020001000000000000");
    },
    comes: "echo",
  },
  {
    server: "asyncssh",
    does: "grants with an empty name",
    command: "CONNECT",
    async plays(peer) {
      await asked(peer);
      peer.send("05000003000000");
      peer.socket.end("pong");
    },
    comes: "open, pong, end",
  },
  {
    server: "asyncssh",
    does: "refuses with an empty name",
    command: "CONNECT",
    plays: refuses(CONNECT, "05050003000000"),
    comes: /^reply 5: /,
  },
  {
    server: "v2ray",
    does: "grants with a name",
    command: "CONNECT",
    async plays(peer) {
      await asked(peer);
      peer.send("050000030d70726f78792e6578616d706c650438");
      peer.socket.end("pong");
    },
    comes: "open, pong, end",
  },
  {
    server: "chisel",
    does: "has no UDP",
    command: "UDP ASSOCIATE",
    plays: refuses(ASSOCIATE, "05070001000000000000"),
    comes: /^reply 7: .*command not supported/,
  },
  {
    server: "warp-plus",
    does: "says 04 for UDP",
    command: "UDP ASSOCIATE",
    plays: refuses(ASSOCIATE, "05040001000000000000"),
    comes: /^reply 4: /,
  },
  {
    server: "mockserver",
    does: "chooses a method that was not offered",
    credentials: "me:pw@",
    command: "CONNECT",
    async plays(peer) {
      await peer.expects("050102");
      peer.send("0500");
    },
    comes: /^protocol 0: .*chose no authentication/,
  },
  {
    server: "tinyproxy, old ones",
    does: "puts 05 into the version of a password's status",
    credentials: "me:pw@",
    command: "CONNECT",
    async plays(peer) {
      await peer.expects("050102");
      peer.send("0502");
      await peer.expects("01026d65027077");
      peer.send("0500");
      await peer.expects(CONNECT);
      peer.send(GRANT);
      peer.socket.end();
    },
    comes: "open, end",
  },
  {
    server: "one in a hurry",
    does: "says everything before it is asked",
    command: "CONNECT",
    plays(peer) {
      peer.send(`0500${GRANT}${Buffer.from("pong").toString("hex")}`);
      peer.socket.end();
    },
    comes: "open, pong, end",
  },
];

/** What the client got of it, once that is as it should be or can change no more. */
async function outcome(
  { command, comes }: Quirk,
  client: Recorder | AssociationClient,
): Promise<string> {
  if (client instanceof AssociationClient) {
    await until("an answer", () => client.events.length > 0);
    if (client.refusal === null) {
      client.send(Buffer.from("hello"));
      await until("the echo", () => client.received.length > 0);
      expect(client.received).toEqual([ECHO]);
      return "echo";
    }
  } else {
    const ends = (): boolean => client.events.includes("end") || client.refusal !== null;
    await until(`${command} ends as ${comes}`, ends);
    if (client.refusal === null) {
      return ["open", client.text, "end"].filter((part) => part !== "").join(", ");
    }
  }
  const { kind, reply, error } = client.refusal;
  return `${kind} ${reply}: ${error.message}`;
}

describe.each(SHAPES)("%s shape", (shape) => {
  async function meets(quirk: Quirk): Promise<string> {
    const before = descriptors();
    const server = await ScriptedServer.listen();
    const url = `socks5://${quirk.credentials ?? ""}127.0.0.1:${server.port}`;
    const upstream = open(shape, url, { pipeline: "off" });
    const client =
      quirk.command === "CONNECT"
        ? new Recorder().connect(upstream)
        : new AssociationClient(upstream);
    const peer = await server.accept();
    // No time passes: whatever comes of it comes at once.
    await quirk.plays(peer, relay.port.toString(16).padStart(4, "0"));
    const seen = await outcome(quirk, client);
    if (client instanceof Recorder) client.stream?.close();
    else client.close();
    await peer.gone();
    await closeServers();
    await until("descriptors", () => descriptors() <= before);
    expect(timers.next()).toBe(-1);
    return seen;
  }

  test.each(QUIRKS)("$server $does ($command)", async (quirk) => {
    const seen = await meets(quirk);
    if (typeof quirk.comes === "string") expect(seen).toBe(quirk.comes);
    else expect(seen).toMatch(quirk.comes);
  });

  // Servers leave out what is behind REP, or fill it with an ATYP of 0, and wait for us to close.
  test("every refusal is told at once, wherever the reply is cut behind REP", async () => {
    for (const code of [1, 2, 3, 4, 5, 6, 7, 8, 9, 0xff]) {
      const octet = code.toString(16).padStart(2, "0");
      for (const rest of ["", "00", "0000", "0001", "00010000", "0003", "000300"]) {
        for (const command of ["CONNECT", "UDP ASSOCIATE"] as const) {
          const request = command === "CONNECT" ? CONNECT : ASSOCIATE;
          const plays = refuses(request, `05${octet}${rest}`);
          const quirk: Quirk = { server: "", does: "", command, plays, comes: "" };
          expect(await meets(quirk)).toMatch(new RegExp(`^reply ${code}: `));
        }
      }
    }
  });
});
