/** Files with passwords: read whole, with a line when others can read them, too. */

import { closeSync, fstatSync, openSync, readFileSync } from "node:fs";
import { TunnelError } from "../errors.ts";
import type { Log } from "../log.ts";

const READ_ERRORS: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  EACCES: "permission denied",
  EISDIR: "it is a directory",
};

/** @throws TunnelError ERR_USAGE or ERR_PERMISSION, without anything of the content. */
export function readSecretFile(path: string, log: Log): string {
  let descriptor = -1;
  try {
    descriptor = openSync(path, "r");
    const text = readFileSync(descriptor, "utf8");
    const status = fstatSync(descriptor);
    if (status.isFile() && (status.mode & 0o004) !== 0) {
      const mode = `0${(status.mode & 0o777).toString(8)}`;
      log.warn?.(`every user can read ${path} (mode ${mode}): run \`chmod 600 ${path}\``);
    }
    return text;
  } catch (cause) {
    const { code } = cause as NodeJS.ErrnoException;
    const what = `cannot read ${path}: ${READ_ERRORS[code ?? ""] ?? code}`;
    throw new TunnelError(
      code === "EACCES" ? "ERR_PERMISSION" : "ERR_USAGE",
      `${what}; check the path and its permissions`,
      { cause },
    );
  } finally {
    if (descriptor >= 0) closeSync(descriptor);
  }
}
