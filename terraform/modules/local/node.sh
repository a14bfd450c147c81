#!/bin/sh
# One server of modules/local: started, awaited, stopped. Terraform says which by variables:
# TEN, NAME, DIR, ADDRESS, DOMAIN, the four ports; for those that join, FOUNDER, the data
# directory of the first server, and FOUNDER_ADDRESS; NODES for await. Each may be cut off
# and run again.
set -eu
umask 077
patience=120 # seconds, for any one wait
root=$(dirname "$DIR")

for v in $(env | sed -n 's/^\(TENEMENT_[A-Z_]*\)=.*/\1/p'); do
  unset "$v" # they are for other servers
done

say() { printf '%s: %s\n' "$NAME" "$*" >&2; }

die() {
  say "$@"
  exit 1
}

# until_true COMMAND...: repeats it, for there is nothing to wait on. It fails after $patience.
until_true() {
  tries=$((patience * 5))
  until "$@"; do
    tries=$((tries - 1))
    [ "$tries" -gt 0 ] || return 1
    sleep 0.2
  done
}

# at DIRECTORY COMMAND...: a command to the server of that directory and no other.
at() {
  socket="unix://$1/ten.sock"
  shift
  "$TEN" --server "$socket" "$@"
}

# alive: whether the process of the pid file is there, and is the one that was started for
# this directory: by now the number may be anybody's.
alive() {
  pid=$(cat "$DIR.pid" 2>/dev/null) && [ -n "$pid" ] &&
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -Fqx -e "$DIR"
}

gone() { ! alive; }

serves() { grep -q ' is serving http:' "$DIR.log"; }

# ended: a process that has only just been started is not yet what alive looks for.
ended() { [ ! -e "/proc/$pid" ] || grep -q '^State:.*Z' "/proc/$pid/status" 2>/dev/null; }

serves_or_ended() { serves || ended; }

launch() {
  set -- serve --config "$DIR.toml" --data-dir "$DIR" --node-name "$NAME" --bind "$ADDRESS" --domain "$DOMAIN" \
    --port "$PORT" --tls-port "$TLS_PORT" --peer-port "$PEER_PORT" --gossip-port "$GOSSIP_PORT"
  if [ -n "$FOUNDER" ]; then
    set -- "$@" --join "$FOUNDER_ADDRESS:$PEER_PORT"
    if [ ! -s "$DIR/.ten/secret" ]; then
      at "$FOUNDER" join-token --expires 10m --uses 1 --description "for $NAME" >"$DIR.token" 2>"$DIR.log" ||
        die "has no join token: $(cat "$DIR.log")"
      set -- "$@" --token-file "$DIR.token"
    fi
  fi
  : >"$DIR.log" # before anybody looks into it
  # A session of its own: Ctrl-C is for Terraform.
  setsid "$TEN" "$@" </dev/null >>"$DIR.log" 2>&1 &
  pid=$!
  echo "$pid" >"$DIR.pid"
}

start() {
  [ ! -e "$DIR" ] || [ -e "$DIR.toml" ] || die "$DIR was not made here: choose another data_dir"
  command -v "$TEN" >/dev/null || die "there is no program $TEN: say where it is, binary = …"
  mkdir -p "$root"
  : >"$DIR.toml" # says that the directory was made here; and is read instead of one that lies about
  if [ ! -e "$DIR" ]; then
    mkdir "$DIR"
    # Its name may be that of one that is gone for good.
    [ -z "$FOUNDER" ] || at "$FOUNDER" node remove "$NAME" --yes >/dev/null 2>&1 || true
  fi
  alive || launch
  until_true serves_or_ended || die "does not serve after $patience s: $(tail -n 5 "$DIR.log")"
  serves || die "has ended: $(tail -n 5 "$DIR.log")"
  rm -f "$DIR.token" # used up
  if [ -z "$FOUNDER" ]; then
    [ -s "$DIR/api_token" ] || "$TEN" --data-dir "$DIR" token-gen --description "made by modules/local" >/dev/null
    at "$DIR" cluster ca >"$root/ca.pem"
  fi
  say "process $pid serves $ADDRESS:$PORT"
}

complete() { at "$DIR" cluster 2>/dev/null | grep -q "^nodes  *$NODES of .* are up"; }

await() { until_true complete || die "the cluster is not complete after $patience s: $(at "$DIR" nodes 2>&1)"; }

remove() { rm -rf "$DIR" "$DIR.token" "$DIR.pid" "$DIR.log" 2>/dev/null && [ ! -e "$DIR" ] && rm -f "$DIR.toml"; }

stop() {
  [ -e "$DIR.toml" ] || return 0 # it was never started
  # Its programs end with a server that is interrupted.
  if alive; then
    kill -INT "$pid"
    until_true gone || die "process $pid does not end"
  fi
  # Somebody may have replaced it (ten upgrade): its directory must not go.
  if at "$DIR" cluster --json >/dev/null 2>&1; then
    die "a process that was not started here serves $DIR: end it, then try again"
  fi
  until_true remove || die "can't remove $DIR"
  [ -n "$FOUNDER" ] || rm -f "$root/ca.pem"
  rmdir "$root" 2>/dev/null || true # the last one does
}

case ${1:-} in
start) start ;;
await) await ;;
stop) stop ;;
*) die "usage: node.sh start|await|stop" ;;
esac
