#!/bin/sh
# Runs hev-socks5-tunnel, which wants a file: PROGRAM TUN SOCKS_HOST SOCKS_PORT MTU. The file is gone when it runs.
set -e
config=$(mktemp)
cat > "$config" <<END
tunnel: {name: $2, mtu: $5, multi-queue: false}
socks5: {address: $3, port: $4, udp: 'udp'}
misc: {log-file: stderr, log-level: warn}
END
exec 9< "$config"
rm "$config"
exec "$1" /proc/self/fd/9
