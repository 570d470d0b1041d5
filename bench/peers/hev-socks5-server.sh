#!/bin/sh
# Runs hev-socks5-server, which wants a file: PROGRAM HOST PORT. The file is gone when it runs.
set -e
config=$(mktemp)
cat > "$config" <<END
main: {workers: 1, port: $3, listen-address: '$2', udp-port: $3, udp-listen-address: '$2', listen-ipv6-only: false}
END
exec 9< "$config"
rm "$config"
exec "$1" /proc/self/fd/9
