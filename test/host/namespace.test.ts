import { constants } from "node:os";
import { expect, test } from "vitest";
import {
  commandEnvironment,
  commandFailure,
  exitCode,
  plainNameService,
} from "../../src/host/namespace.ts";

const { errno } = constants;

test("proxy variables in either case leave the environment, all else stays", () => {
  const env = {
    PATH: "/bin",
    HTTP_PROXY: "a",
    https_proxy: "b",
    ALL_PROXY: "c",
    no_proxy: "d",
    PROXY_USER: "e",
    EMPTY: "",
    GONE: undefined,
  };
  expect(commandEnvironment(env, false)).toEqual(["PATH=/bin", "PROXY_USER=e", "EMPTY="]);
  expect(commandEnvironment(env, true)).toEqual([
    "PATH=/bin",
    "HTTP_PROXY=a",
    "https_proxy=b",
    "ALL_PROXY=c",
    "no_proxy=d",
    "PROXY_USER=e",
    "EMPTY=",
  ]);
});

test("the password for our proxy leaves the environment in any case", () => {
  for (const keepEnv of [false, true]) {
    const env = { PATH: "/bin", TUN2SOCKS_PROXY_AUTH: "me:secret" };
    expect(commandEnvironment(env, keepEnv)).toEqual(["PATH=/bin"]);
  }
});

test("the hosts line of nsswitch.conf becomes files and dns, the other lines stay", () => {
  expect(
    plainNameService(
      "passwd: files systemd\nhosts:   files mdns4 [NOTFOUND=return] resolve\nnetworks: files\n",
    ),
  ).toBe("passwd: files systemd\nhosts: files dns\nnetworks: files\n");
});

test("an nsswitch.conf without a hosts line gets one", () => {
  expect(plainNameService("passwd: files")).toBe("passwd: files\nhosts: files dns\n");
  expect(plainNameService("")).toBe("hosts: files dns\n");
});

test("a commented-out hosts line is left alone", () => {
  expect(plainNameService("#hosts: dns\nhosts: nis\n")).toBe("#hosts: dns\nhosts: files dns\n");
});

test.each([
  [{ status: 0, signal: 0, execErrno: 0, startErrno: 0 }, 0],
  [{ status: 7, signal: 0, execErrno: 0, startErrno: 0 }, 7],
  [{ status: -1, signal: constants.signals.SIGTERM, execErrno: 0, startErrno: 0 }, 143],
  [{ status: -1, signal: 0, execErrno: errno.ENOENT, startErrno: 0 }, 127],
  [{ status: -1, signal: 0, execErrno: errno.EACCES, startErrno: 0 }, 126],
  [{ status: -1, signal: 0, execErrno: errno.ENOEXEC, startErrno: 0 }, 126],
  [{ status: -1, signal: 0, execErrno: 0, startErrno: errno.EAGAIN }, 125],
])("%o ends a shell's way", (exit, code) => {
  expect(exitCode(exit)).toBe(code);
});

test("a command that cannot be run is explained in one line with its code", () => {
  const failure = (execErrno: number, startErrno = 0) =>
    commandFailure("frob", { status: -1, signal: 0, execErrno, startErrno });
  expect(failure(0)).toBe(null);
  expect(failure(errno.ENOENT)).toMatchObject({
    code: "ERR_COMMAND_NOT_FOUND",
    message: expect.stringMatching(/^cannot run frob: [^\n]+; [^\n]+$/),
  });
  expect(failure(errno.EACCES)).toMatchObject({
    code: "ERR_COMMAND_NOT_EXECUTABLE",
    message: expect.stringContaining("permission denied"),
  });
  expect(failure(errno.E2BIG)).toMatchObject({
    code: "ERR_COMMAND_NOT_EXECUTABLE",
    message: expect.stringContaining("E2BIG"),
  });
  expect(failure(0, errno.EAGAIN)).toMatchObject({
    code: "ERR_NAMESPACE",
    message: "cannot start the command: too many processes (fork: EAGAIN); raise `ulimit -u`",
  });
  expect(failure(0, errno.ENOMEM)).toMatchObject({
    code: "ERR_NAMESPACE",
    message: expect.stringContaining("fork: ENOMEM"),
  });
});
