// Loaded into a process that is measured (--expose-gc --import): SIGUSR2 collects its garbage.

process.on("SIGUSR2", () => {
  globalThis.gc();
  globalThis.gc();
});
