{
  "variables": { "asan%": 0, "strict%": 0 },
  "targets": [
    {
      "target_name": "tun2socks",
      "sources": [
        "src/native/addon.c",
        "src/native/memory.c",
        "src/native/tun_setup.c",
        "src/native/tun_link.c",
        "src/native/tun_open.c",
        "src/native/tun.c",
        "src/native/poll.c",
        "src/native/socket.c",
        "src/native/datagram.c",
        "src/native/spawn.c",
        "src/native/spawn_plan.c",
        "src/native/supervisor.c",
        "src/native/supervisor_files.c"
      ],
      "defines": ["NAPI_VERSION=8", "_GNU_SOURCE"],
      "cflags": ["-std=gnu11", "-O2", "-Wall", "-Wextra"],
      "conditions": [
        ["strict==1", { "cflags": ["-Werror"] }],
        ["asan==1", {
          "cflags": ["-fsanitize=address", "-fno-omit-frame-pointer", "-g"],
          "ldflags": ["-fsanitize=address", "-Wl,-z,nodelete"]
        }]
      ]
    }
  ]
}
