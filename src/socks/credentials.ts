/**
 * Users and passwords of the built-in server (RFC 1929): the user file, and the comparison.
 *
 * Passwords are compared in constant time, and an unknown user costs as much as a wrong password. Names and
 * passwords are octets on the wire; here they are UTF-8, 1 to 255 octets each, as RFC 1929 §2 counts them.
 */

import { TunnelError } from "../errors.ts";
import { fillRandom } from "../random.ts";

/** Octets of a name or password at most (RFC 1929 §2: one octet of length). */
export const MAX_CREDENTIAL_OCTETS = 255;

/**
 * Parses a user file: one `user:password` per line, split at the first colon; empty lines and lines that begin
 * with `#` are skipped. White space is part of a password; a carriage return before the line feed is not.
 *
 * @throws TunnelError ERR_USAGE with `name` and the line's number, never with its content.
 */
export function parseUserFile(text: string, name: string): Map<string, string> {
  const badLine = (index: number, why: string): TunnelError =>
    new TunnelError(
      "ERR_USAGE",
      `cannot use ${name}: line ${index + 1} ${why}; write user:password`,
    );
  const users = new Map<string, string>();
  const lines = text.replace(/^\uFEFF/, "").split("\n");
  for (const [index, raw] of lines.entries()) {
    const line = raw.endsWith("\r") ? raw.slice(0, -1) : raw;
    if (line.trim() === "" || line.startsWith("#")) continue;
    const colon = line.indexOf(":");
    if (colon < 0) throw badLine(index, "has no colon");
    const user = line.slice(0, colon);
    const password = line.slice(colon + 1);
    if (!fits(user)) throw badLine(index, "has a user that is empty or longer than 255 octets");
    if (!fits(password))
      throw badLine(index, "has a password that is empty or longer than 255 octets");
    if (users.has(user)) throw badLine(index, "names a user again");
    users.set(user, password);
  }
  if (users.size === 0) {
    throw new TunnelError("ERR_USAGE", `cannot use ${name}: no user is in it; write user:password`);
  }
  return users;
}

function fits(text: string): boolean {
  const octets = Buffer.byteLength(text);
  return octets >= 1 && octets <= MAX_CREDENTIAL_OCTETS;
}

/** One user with a random name and password of this process, which nobody else can know. */
export function randomCredentials(): { readonly user: string; readonly password: string } {
  return {
    user: fillRandom(Buffer.alloc(16)).toString("hex"),
    password: fillRandom(Buffer.alloc(32)).toString("hex"),
  };
}

/** The users of one server, ready for comparison. */
export class CredentialTable {
  /** Keyed by the name's octets as Latin-1, so that every octet string is a key of its own. */
  readonly #passwords = new Map<string, Uint8Array>();
  /** What an unknown user is compared with. */
  readonly #nobody: Uint8Array = fillRandom(new Uint8Array(BLOCK));
  readonly #candidate = new Uint8Array(BLOCK);

  constructor(users: ReadonlyMap<string, string>) {
    for (const [user, password] of users) {
      const octets = Buffer.from(password);
      const name = Buffer.from(user);
      if (octets.length > MAX_CREDENTIAL_OCTETS || name.length > MAX_CREDENTIAL_OCTETS) {
        throw new TunnelError(
          "ERR_USAGE",
          "cannot use a user or password: it is longer than 255 octets; shorten it",
        );
      }
      const block = new Uint8Array(BLOCK);
      block[0] = octets.length;
      block.set(octets, 1);
      this.#passwords.set(name.toString("latin1"), block);
    }
  }

  /** True if the octets of name and password, [start, end) of `bytes` each, belong to one user. */
  matches(
    bytes: Uint8Array,
    userStart: number,
    userEnd: number,
    passwordStart: number,
    passwordEnd: number,
  ): boolean {
    let user = "";
    for (let i = userStart; i < userEnd; i++) user += String.fromCharCode(bytes[i] as number);
    const known = this.#passwords.get(user);
    const candidate = this.#candidate;
    candidate.fill(0);
    candidate[0] = passwordEnd - passwordStart;
    for (let i = passwordStart; i < passwordEnd; i++) {
      candidate[1 + i - passwordStart] = bytes[i] as number;
    }
    const wanted = known ?? this.#nobody;
    let difference = 0;
    for (let i = 0; i < BLOCK; i++) {
      difference |= (candidate[i] as number) ^ (wanted[i] as number);
    }
    candidate.fill(0);
    return difference === 0 && known !== undefined;
  }
}

/** A length octet and the longest password. */
const BLOCK = 256;
