/** A small SOCKS5 server without UDP that answers as a test says, for what speaks to it as a user's program does. */

import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";

export interface ProxyScript {
  /** The method chosen where it is offered; FF otherwise. 0 by default. */
  readonly method?: number;
  /** Never says a word. */
  readonly mute?: boolean;
  /** Takes each chunk for one message, as microsocks does. */
  readonly messageByMessage?: boolean;
  /** REP of a request, by its command and "HOST:PORT"; null: closed without a reply, undefined: never. */
  readonly reply?: (command: number, target: string, socket: Socket) => number | null | undefined;
}

/** BND of every reply that grants: 127.0.0.7:4711. */
const BOUND = "017f0000071267";

export class ScriptedProxy {
  /** What was asked for, "COMMAND HOST:PORT". */
  readonly requests: string[] = [];
  /** Connections that got a reply that grants, newest last. */
  readonly granted: Socket[] = [];
  readonly #sockets: Socket[] = [];
  readonly #script: ProxyScript;
  readonly #server: Server;

  private constructor(script: ProxyScript) {
    this.#script = script;
    this.#server = createServer({ allowHalfOpen: true }, (socket) => this.#serve(socket));
  }

  static async start(script: ProxyScript = {}): Promise<ScriptedProxy> {
    const proxy = new ScriptedProxy(script);
    proxy.#server.listen(0, "127.0.0.1");
    await once(proxy.#server, "listening");
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `socks5://127.0.0.1:${this.port}`;
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((done) => this.#server.close(done));
  }

  #serve(socket: Socket): void {
    this.#sockets.push(socket);
    socket.on("error", () => socket.destroy());
    if (this.#script.mute === true) return;
    let octets = Buffer.alloc(0);
    const steps = [greetingLength, requestLength];
    socket.on("data", (chunk: Buffer) => {
      octets = Buffer.concat([octets, chunk]);
      while (steps.length > 0) {
        const length = (steps[0] as typeof greetingLength)(octets);
        if (length === 0 || octets.length < length) return;
        const message = octets.subarray(0, length);
        octets = this.#script.messageByMessage === true ? Buffer.alloc(0) : octets.subarray(length);
        if (steps.shift() === greetingLength) this.#greet(socket, message);
        else this.#answer(socket, message);
      }
    });
  }

  #greet(socket: Socket, message: Buffer): void {
    const { method = 0 } = this.#script;
    if (message.subarray(2).includes(method)) socket.write(Buffer.from([5, method]));
    else socket.end(Buffer.from([5, 0xff]));
  }

  #answer(socket: Socket, message: Buffer): void {
    const target = address(message.subarray(3));
    const command = message[1] as number;
    this.requests.push(`${command} ${target}`);
    const { reply: asked = () => 0 } = this.#script;
    const reply = command === 3 ? 7 : asked(command, target, socket);
    if (reply === undefined) return;
    if (reply === null) {
      socket.end();
      return;
    }
    if (reply === 0) this.granted.push(socket);
    socket.write(Buffer.from(`05${reply.toString(16).padStart(2, "0")}00${BOUND}`, "hex"));
    if (reply !== 0) socket.end();
  }
}

function greetingLength(octets: Buffer): number {
  return octets.length < 2 ? 0 : 2 + (octets[1] as number);
}

function requestLength(octets: Buffer): number {
  if (octets.length < 5) return 0;
  return octets[3] === 1 ? 10 : octets[3] === 4 ? 22 : 7 + (octets[4] as number);
}

/** "HOST:PORT" of ATYP, address and port. */
function address(octets: Buffer): string {
  const port = octets.readUInt16BE(octets.length - 2);
  const host = octets.subarray(1, -2);
  if (octets[0] === 1) return `${[...host].join(".")}:${port}`;
  return octets[0] === 3 ? `${host.subarray(1)}:${port}` : `[${host.toString("hex")}]:${port}`;
}
