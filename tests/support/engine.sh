#!/bin/sh
# Runs a container engine of its own, beside any other, until standard input ends: engine.sh FOLDER [NETWORK]
# NETWORK is dockerd's option for its bridge; none without.
# FOLDER keeps its images between runs. Prints "ready SOCKET" once it answers. An image heddle-test-base, a Debian
# with python3, is in it: made without a registry.
set -eu
mkdir -p "$1"
# dockerd does not start with a relative one.
folder=$(realpath "$1")
exec 9>"$folder/lock"
flock 9
if ! [ -f "$folder/base.tar" ]; then
  mmdebstrap --quiet --variant=minbase --include=python3,python3-venv,ca-certificates --dpkgopt=force-unsafe-io \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' bookworm "$folder/base.part.tar" >&2
  mv "$folder/base.part.tar" "$folder/base.tar"
fi
# A Unix socket's name must be short.
run=$(mktemp -d /tmp/heddle-engine.XXXXXX)
chmod 755 "$run"
engine=
end() {
  [ -z "$engine" ] || kill "$engine" 2>/dev/null && wait "$engine" || true
  # Of an engine that was killed.
  for process in /proc/[0-9]*; do
    ! grep -qs "$run/exec/" "$process/cmdline" || kill -KILL "${process#/proc/}" 2>/dev/null || true
  done
  umount "$run"/exec/netns/* 2>/dev/null || true
  rm -rf "$run"
}
# The shell itself does not call a death by a signal an exit.
trap end EXIT
trap 'exit 1' HUP INT TERM
DOCKER_HOST=unix://$run/docker.sock
export DOCKER_HOST
dockerd -H "$DOCKER_HOST" --data-root "$folder/data" --exec-root "$run/exec" --pidfile "$run/pid" \
  --iptables=false "${2:---bridge=none}" >"$folder/log" 2>&1 9>&- &
engine=$!
tries=0
until docker version >/dev/null 2>&1; do
  tries=$((tries + 1))
  if [ $tries -gt 300 ] || ! kill -0 $engine 2>/dev/null; then
    tail -n 20 "$folder/log" >&2
    exit 1
  fi
  sleep 0.1
done
docker image inspect heddle-test-base >/dev/null 2>&1 || docker import "$folder/base.tar" heddle-test-base >&2
echo "ready $run/docker.sock"
exec 1>&-
cat >/dev/null
