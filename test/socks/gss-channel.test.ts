import { expect, test } from "vitest";
import {
  GssChannel,
  type GssChannelHandler,
  MAX_GSS_CHUNK,
  MAX_HELD,
  MAX_ROUNDS,
} from "../../src/socks/gss-channel.ts";
import { GSS_LEVELS, type GssLevelName, type GssOptions } from "../../src/socks/gss-context.ts";
import { GssMessage, gssMessage, MAX_GSS_TOKEN } from "../../src/socks/gss-frames.ts";
import type { Refusal } from "../../src/socks/ports.ts";
import {
  type GssScript,
  ONE_ROUND,
  ScriptedContext,
  ScriptedSeal,
  SEAL,
} from "../support/scripted-gss.ts";

const OPTIONS: GssOptions = {
  level: "integrity",
  service: "rcmd",
  nec: false,
  principal: "alice@TEST",
};
const METHOD = Buffer.from("0501", "hex");
const WELCOME = gssMessage(GssMessage.TOKEN, Buffer.from("welcome"));

/** A channel and what it told. */
class Client implements GssChannelHandler {
  readonly context: ScriptedContext;
  readonly channel: GssChannel;
  readonly sent: Buffer[] = [];
  readonly events: string[] = [];
  octets = Buffer.alloc(0);
  refusal: Refusal | null = null;

  constructor(options: Partial<GssOptions> = {}, script: GssScript = ONE_ROUND) {
    this.context = new ScriptedContext(script);
    this.channel = new GssChannel(
      this.context,
      { ...OPTIONS, ...options },
      "socks5://proxy.test:1080",
      this,
    );
    this.channel.start();
  }

  onSend(bytes: Uint8Array): void {
    this.sent.push(Buffer.from(bytes));
  }

  onOpen(): void {
    this.events.push("open");
  }

  onOctets(bytes: Uint8Array): void {
    this.octets = Buffer.concat([this.octets, bytes]);
  }

  onFailed(refusal: Refusal): void {
    this.events.push("failed");
    this.refusal = refusal;
  }

  /** Octets of the server, and what the library makes of them. */
  async receive(...chunks: Uint8Array[]): Promise<this> {
    for (const chunk of chunks) {
      this.channel.receive(chunk);
      await settled();
    }
    return this;
  }

  get hex(): string[] {
    return this.sent.map((message) => message.toString("hex"));
  }
}

/** Promises of the scripted library. */
async function settled(): Promise<void> {
  for (let i = 0; i < 8; i++) await null;
}

function levelMessage(level: number, nec = false, seal = new ScriptedSeal()): Uint8Array {
  const octet = Uint8Array.of(level);
  return gssMessage(GssMessage.LEVEL, nec ? octet : seal.wrap(octet, false));
}

/** Everything that a server says: method, token, level, then each of `texts` as a message. */
function whole(level: GssLevelName, texts: readonly string[], nec = false): Buffer {
  const seal = new ScriptedSeal();
  const number = GSS_LEVELS.indexOf(level);
  const agreement = levelMessage(number, nec, seal);
  const data = texts.map((text) =>
    number === 0
      ? Buffer.from(text)
      : gssMessage(GssMessage.DATA, seal.wrap(Buffer.from(text), number === 2)),
  );
  return Buffer.concat([METHOD, WELCOME, agreement, ...data]);
}

async function opened(options: Partial<GssOptions> = {}): Promise<Client> {
  const client = new Client(options);
  const level = options.level ?? OPTIONS.level;
  await client.receive(whole(level, [], options.nec));
  expect(client.events).toEqual(["open"]);
  return client;
}

async function refusalFor(
  chunks: readonly Uint8Array[],
  options: Partial<GssOptions> = {},
  script?: GssScript,
): Promise<string> {
  const client = await new Client(options, script).receive(...chunks);
  expect(client.events).toEqual(["failed"]);
  expect(client.context.isClosed).toBe(true);
  expect(client.refusal?.error.message).not.toContain("alice");
  return `${client.refusal?.kind}: ${client.refusal?.error.message}`;
}

test("GSSAPI is the only method offered (RFC 1928 §3)", () => {
  expect(new Client().hex).toEqual(["050101"]);
});

test("token, level and messages are VER, MTYP, LEN, TOKEN (RFC 1961 §3.7, §4.3, §5)", async () => {
  const client = await opened();
  const [, token, level] = client.hex;
  expect(token).toBe(`01010005${Buffer.from("hello").toString("hex")}`);
  expect(level?.slice(0, 8)).toBe("01020004");
  const server = new ScriptedSeal();
  expect([...(server.unwrap((client.sent[2] as Buffer).subarray(4), false) ?? [])]).toEqual([1]);
  const [message] = client.channel.seal(Buffer.from("GET")) as readonly Uint8Array[];
  expect(
    Buffer.from(message as Uint8Array)
      .subarray(0, 4)
      .toString("hex"),
  ).toBe("01030006");
  expect(
    Buffer.from(server.unwrap((message as Uint8Array).subarray(4), false) ?? []).toString(),
  ).toBe("GET");
});

for (const nec of [false, true]) {
  for (const level of GSS_LEVELS) {
    const how = nec ? ", in NEC's variant" : "";
    test(`at ${level}${how} the same octets arrive in every split`, async () => {
      const octets = whole(level, ["one", "", "three"], nec);
      for (let split = 0; split <= octets.length; split++) {
        const client = new Client({ level, nec });
        await client.receive(octets.subarray(0, split), octets.subarray(split));
        expect(client.events).toEqual(["open"]);
        expect(client.channel.level).toBe(level);
        expect(client.octets.toString()).toBe("onethree");
      }
      const trickled = new Client({ level, nec });
      await trickled.receive(...Array.from(octets, (octet) => Uint8Array.of(octet)));
      expect(trickled.octets.toString()).toBe("onethree");
    });
  }
}

test("a server that ends anywhere but between two messages is told, once", async () => {
  const octets = whole("integrity", ["one", "two"]);
  const between = [octets.length, octets.length - 10, octets.length - 20];
  for (let length = 0; length <= octets.length; length++) {
    const client = await new Client().receive(octets.subarray(0, length));
    const fine = client.channel.end();
    expect([length, fine]).toEqual([length, between.includes(length)]);
    expect(client.events.includes("failed")).toBe(!fine);
    expect(client.channel.end()).toBe(fine);
  }
});

test("a wrong version or type in any message is refused before its length is believed", async () => {
  const parts = [METHOD, WELCOME, levelMessage(1)];
  for (const [index, at] of [
    [1, 0],
    [1, 1],
    [2, 0],
    [2, 1],
  ] as const) {
    for (const octet of [0x00, 0x04, 0x05, 0x7f, 0xfe]) {
      const wrong = Buffer.from(parts[index] as Uint8Array).subarray(0, at + 1);
      wrong[at] = octet;
      const said = await refusalFor([...parts.slice(0, index), wrong]);
      expect(said).toMatch(
        at === 0 ? /^protocol: .*unknown version/ : /^protocol: .*unexpected type/,
      );
    }
  }
  expect(await refusalFor([Buffer.from("H")])).toContain("does not answer in SOCKS5");
});

test("messages out of their place are refused", async () => {
  const level = levelMessage(1);
  expect(await refusalFor([METHOD, level])).toContain("unexpected type (2)");
  expect(await refusalFor([METHOD, WELCOME, WELCOME])).toContain("unexpected type (1)");
  expect(await refusalFor([METHOD, WELCOME, gssMessage(3, level)])).toContain("type (3)");
});

test("an abort is two octets at any place, and says to look at the ticket (RFC 1961 §3.8)", async () => {
  const abort = Buffer.from("01ff", "hex");
  for (const before of [[METHOD], [METHOD, WELCOME]]) {
    expect(await refusalFor([...before, abort])).toMatch(/^auth: .*refused us.*klist/);
  }
  const client = await opened();
  await client.receive(abort);
  expect(client.events).toEqual(["open", "failed"]);
});

test("a method that was not offered is named, and so is what we offer", async () => {
  expect(await refusalFor([Buffer.from("05ff", "hex")])).toMatch(
    /^auth: .*no method that we offer \(GSSAPI\)/,
  );
  expect(await refusalFor([Buffer.from("0500", "hex")])).toMatch(
    /^protocol: .*no authentication, we offer GSSAPI/,
  );
});

test("a lower level than asked for is refused, a higher one kept (RFC 1961 §4.2)", async () => {
  for (const [asked, level] of GSS_LEVELS.entries()) {
    for (const [answered, name] of GSS_LEVELS.entries()) {
      const client = await new Client({ level }).receive(METHOD, WELCOME, levelMessage(answered));
      if (answered < asked) {
        expect(client.refusal?.error.message).toContain(`agrees to ${name} only, not to ${level}`);
      } else {
        expect(client.channel.level).toBe(name);
      }
    }
  }
});

test("an unknown level, an empty one and one that is not genuine are refused", async () => {
  expect(await refusalFor([METHOD, WELCOME, levelMessage(3)])).toContain("do not know");
  const empty = gssMessage(GssMessage.LEVEL, new Uint8Array(0));
  expect(await refusalFor([METHOD, WELCOME, empty])).toContain("not genuine");
  expect(await refusalFor([METHOD, WELCOME, levelMessage(1, true)])).toContain("NEC's variant");
  expect(await refusalFor([METHOD, WELCOME, empty], { nec: true })).toContain("do not know");
});

test("a context that cannot encrypt is not asked to", async () => {
  const script: GssScript = { ...ONE_ROUND, isConfidential: false };
  expect(await refusalFor([METHOD, WELCOME], { level: "confidentiality" }, script)).toContain(
    "cannot encrypt; ask for ?gssapi=integrity",
  );
  expect(await refusalFor([METHOD, WELCOME, levelMessage(2)], {}, script)).toContain(
    "wants confidentiality",
  );
});

test("a context may take several rounds, but not for ever", async () => {
  const answers = ["a", "b", "c", null];
  const client = new Client({}, { answers, isConfidential: true });
  await client.receive(METHOD, WELCOME, WELCOME);
  expect(client.context.isComplete).toBe(false);
  await client.receive(WELCOME, levelMessage(1));
  expect(client.events).toEqual(["open"]);
  const endless = Array.from({ length: 100 }, () => "more");
  const tokens = Array.from({ length: MAX_ROUNDS + 1 }, () => WELCOME);
  const script: GssScript = { answers: endless, isConfidential: true };
  expect(await refusalFor([METHOD, ...tokens], {}, script)).toContain(
    `${MAX_ROUNDS} GSSAPI tokens`,
  );
  const other = await new Client({}, script).receive(METHOD, ...tokens.slice(1));
  expect(other.events).toEqual([]);
});

test("what the library says is told, without our name", async () => {
  const script: GssScript = { ...ONE_ROUND, failure: "Ticket expired" };
  expect(await refusalFor([METHOD, WELCOME], {}, script)).toMatch(
    /^auth: .*GSSAPI failed: Ticket expired; see klist, kinit/,
  );
});

test("what arrives while the library works is held, one message of it", async () => {
  const script: GssScript = { ...ONE_ROUND, waits: true };
  const client = await new Client({}, script).receive(METHOD, new Uint8Array(MAX_HELD).fill(1));
  expect(client.events).toEqual([]);
  await client.receive(Uint8Array.of(1));
  expect(client.refusal?.error.message).toContain("more than one GSSAPI message unasked");
  expect(client.events).toEqual(["failed"]);
});

test("a channel that is closed while the library works says nothing afterwards", async () => {
  const client = await new Client({}, { ...ONE_ROUND, waits: true }).receive(METHOD);
  client.channel.close();
  client.context.proceed();
  await settled();
  expect(client.hex).toEqual(["050101"]);
  expect(client.events).toEqual([]);
  expect(client.context.isClosed).toBe(true);
});

test("long writes leave in messages whose tokens fit, in order", async () => {
  const client = await opened({ level: "confidentiality" });
  const octets = Buffer.from(Array.from({ length: 2 * MAX_GSS_CHUNK + 1 }, (_, i) => i % 251));
  const messages = client.channel.seal(octets) as readonly Uint8Array[];
  expect(messages.map(({ length }) => length - 4 - SEAL)).toEqual([
    MAX_GSS_CHUNK,
    MAX_GSS_CHUNK,
    1,
  ]);
  const server = new ScriptedSeal();
  server.unwrap((client.sent[2] as Buffer).subarray(4), false);
  const opening = messages.map((message) => server.unwrap(message.subarray(4), true) as Uint8Array);
  expect(Buffer.concat(opening).equals(octets)).toBe(true);
});

test("a message that was changed, sent again or not encrypted ends the stream undelivered", async () => {
  const seal = (): ScriptedSeal => {
    const server = new ScriptedSeal();
    server.wrap(Uint8Array.of(2), false);
    return server;
  };
  const message = gssMessage(GssMessage.DATA, seal().wrap(Buffer.from("abc"), true));
  const changed = Buffer.from(message);
  changed[changed.length - 1] = (changed[changed.length - 1] as number) ^ 1;
  const open = gssMessage(GssMessage.DATA, seal().wrap(Buffer.from("abc"), false));
  for (const [chunks, delivered] of [
    [[changed], ""],
    [[open], ""],
    [[message, message], "abc"],
  ] as const) {
    const client = await opened({ level: "confidentiality" });
    await client.receive(...chunks);
    expect(client.octets.toString()).toBe(delivered);
    expect(client.events).toEqual(["open", "failed"]);
    expect(client.refusal?.kind).toBe("protocol");
  }
});

test("a datagram is one message; a false one is dropped and the channel goes on (RFC 1961 §5)", async () => {
  const client = await opened();
  const server = new ScriptedSeal();
  server.wrap(Uint8Array.of(1), false);
  const message = gssMessage(GssMessage.DATA, server.wrap(Buffer.from("pong"), false));
  const { channel } = client;
  for (let length = 0; length < message.length; length++) {
    expect(channel.openDatagram(message, 0, length)).toBeNull();
  }
  const longer = Buffer.concat([message, Buffer.from("x")]);
  expect(channel.openDatagram(longer, 0, longer.length)).toBeNull();
  expect(Buffer.from(channel.openDatagram(longer, 0, message.length) ?? []).toString()).toBe(
    "pong",
  );
  expect(channel.openDatagram(message, 0, message.length)).toBeNull();
  const most = new Uint8Array(MAX_GSS_TOKEN - SEAL);
  expect(channel.sealDatagram(most)?.length).toBe(4 + MAX_GSS_TOKEN);
  expect(channel.sealDatagram(new Uint8Array(most.length + 1))).toBeNull();
  expect(client.events).toEqual(["open"]);
  channel.close();
  expect(channel.sealDatagram(Uint8Array.of(1))).toBeNull();
  expect(channel.openDatagram(message, 0, message.length)).toBeNull();
});
