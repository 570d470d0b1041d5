import { expect, test } from "vitest";
import { CredentialTable, parseUserFile, randomCredentials } from "../../src/socks/credentials.ts";

test("a user file has a user and a password per line, comments and empty lines", () => {
  const text =
    "\uFEFF# people\n\nalice:secret\r\nbob:with:colons and spaces \n  \n#eve:x\nzoë:pässword\n";
  expect([...parseUserFile(text, "users")]).toEqual([
    ["alice", "secret"],
    ["bob", "with:colons and spaces "],
    ["zoë", "pässword"],
  ]);
});

test("an error in a user file names its line and shows nothing of it", () => {
  for (const [text, line, why] of [
    ["a:b\nsecret\n", 2, "has no colon"],
    [":secret", 1, "user that is empty"],
    ["# x\na:\n", 2, "password that is empty"],
    [`a:${"secret".repeat(50)}`, 1, "longer than 255"],
    [`${"ü".repeat(128)}:secret`, 1, "longer than 255"],
    ["a:b\nc:d\na:secret", 3, "names a user again"],
  ] as const) {
    expect(() => parseUserFile(text, "users")).toThrowError(
      expect.objectContaining({
        code: "ERR_USAGE",
        message: expect.stringMatching(new RegExp(`^cannot use users: line ${line} .*${why}`)),
      }),
    );
    expect(() => parseUserFile(text, "users")).not.toThrowError(/secret/);
  }
  expect(() => parseUserFile("# nobody\n", "users")).toThrowError(
    "cannot use users: no user is in it; write user:password",
  );
});

function matches(
  table: CredentialTable,
  user: string | Buffer,
  password: string | Buffer,
): boolean {
  const name = Buffer.from(user);
  const secret = Buffer.from(password);
  const bytes = Buffer.concat([Buffer.from([9]), name, Buffer.from([9]), secret]);
  const userEnd = 1 + name.length;
  return table.matches(bytes, 1, userEnd, userEnd + 1, userEnd + 1 + secret.length);
}

test("only the whole password of the very user matches", () => {
  const table = new CredentialTable(
    new Map([
      ["alice", "secret"],
      ["zoë", "pässword"],
      ["long", "x".repeat(255)],
    ]),
  );
  expect(matches(table, "alice", "secret")).toBe(true);
  expect(matches(table, "zoë", "pässword")).toBe(true);
  expect(matches(table, "long", "x".repeat(255))).toBe(true);
  for (const [user, password] of [
    ["alice", "secre"],
    ["alice", "secret\0"],
    ["alice", ""],
    ["alice", "pässword"],
    ["Alice", "secret"],
    ["long", "x".repeat(254)],
    ["nobody", "secret"],
    ["", ""],
  ] as const) {
    expect(matches(table, user, password)).toBe(false);
  }
});

test("octets that are no UTF-8 match no user", () => {
  const table = new CredentialTable(new Map([["\uFFFD", "\uFFFD"]]));
  expect(matches(table, "\uFFFD", "\uFFFD")).toBe(true);
  expect(matches(table, Buffer.from([0xff]), "\uFFFD")).toBe(false);
  expect(matches(table, "\uFFFD", Buffer.from([0xff]))).toBe(false);
});

test("an earlier password leaves nothing behind that a shorter one could use", () => {
  const table = new CredentialTable(new Map([["a", "12345678"]]));
  expect(matches(table, "a", "12345678")).toBe(true);
  expect(matches(table, "a", "1234")).toBe(false);
});

test("random credentials are long, and differ each time", () => {
  const { user, password } = randomCredentials();
  expect(user.length).toBeGreaterThanOrEqual(32);
  expect(password.length).toBeGreaterThanOrEqual(64);
  expect(randomCredentials().password).not.toBe(password);
});
