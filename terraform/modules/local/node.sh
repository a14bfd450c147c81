#!/bin/sh
# One server of modules/local: started, awaited, stopped. Terraform says which by variables:
# TEN, NAME, DIR, ADDRESS, DOMAIN, the four ports; FOUNDER, the data directory of the first
# server, for those that join; NODES for await.
set -eu
umask 077
patience=120 # seconds, for any one wait
pid=

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

# client ARGS...: a command to this server and no other, whatever the environment says.
client() { "$TEN" --server "unix://$DIR/ten.sock" "$@"; }

# alive: whether the process of the pid file is there, and is the one that was started for
# this directory: by now the number may be anybody's.
alive() {
  pid=$(cat "$DIR.pid" 2>/dev/null) && [ -n "$pid" ] &&
    tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -Fqx -e "$DIR"
}

gone() { ! alive; }

serves() { grep -q ' is serving http:' "$DIR.log"; }

# serves_or_ended: the wait for a server that has ended is over, too.
serves_or_ended() { serves || gone; }

# end: the programs end with their server when it is interrupted.
end() {
  alive || return 0
  kill -INT "$pid"
  until_true gone || die "process $pid does not end"
}

remove() { rm -rf "$DIR" "$DIR.toml" "$DIR.token" "$DIR.pid" "$DIR.log" 2>/dev/null && [ ! -e "$DIR" ]; }

start() {
  [ ! -e "$DIR" ] || die "$DIR is there already: remove it, or choose another data_dir"
  command -v "$TEN" >/dev/null || die "there is no program $TEN: say where it is, binary = …"
  mkdir -p "$DIR"
  trap 'code=$?; trap - EXIT; end; until_true remove; rmdir "$(dirname "$DIR")" 2>/dev/null; exit $code' EXIT
  trap 'exit 130' INT TERM HUP
  : >"$DIR.toml" # or it would read one that lies about
  set -- serve --config "$DIR.toml" --data-dir "$DIR" --node-name "$NAME" --bind "$ADDRESS" --domain "$DOMAIN" \
    --port "$PORT" --tls-port "$TLS_PORT" --peer-port "$PEER_PORT" --gossip-port "$GOSSIP_PORT"
  if [ -n "${FOUNDER:-}" ]; then
    "$TEN" --server "unix://$FOUNDER/ten.sock" join-token --expires 10m --uses 1 --description "for $NAME" >"$DIR.token"
    set -- "$@" --token-file "$DIR.token"
  fi
  # A session of its own: Ctrl-C is for Terraform.
  setsid "$TEN" "$@" </dev/null >"$DIR.log" 2>&1 &
  pid=$!
  echo "$pid" >"$DIR.pid"
  until_true serves_or_ended || die "does not serve after $patience s: $(tail -n 5 "$DIR.log")"
  serves || die "has ended: $(tail -n 5 "$DIR.log")"
  rm -f "$DIR.token" # used up
  if [ -z "${FOUNDER:-}" ]; then
    "$TEN" --data-dir "$DIR" token-gen --description "made by modules/local" >/dev/null # into api_token
    client cluster ca >"$(dirname "$DIR")/ca.pem"
  fi
  trap - EXIT
  say "process $pid serves $ADDRESS:$PORT"
}

complete() { client cluster 2>/dev/null | grep -q "^nodes  *$NODES of $NODES are up"; }

await() { until_true complete || die "the cluster is not complete after $patience s: $(client nodes 2>&1)"; }

stop() {
  end
  # Somebody may have replaced it (ten upgrade): its directory must not go.
  if client cluster --json >/dev/null 2>&1; then
    die "a process that was not started here serves $DIR: end it, then try again"
  fi
  until_true remove || die "can't remove $DIR"
  if [ -z "${FOUNDER:-}" ]; then
    rm -f "$(dirname "$DIR")/ca.pem"
    rmdir "$(dirname "$DIR")" 2>/dev/null || say "$(dirname "$DIR") is not empty, and stays"
  fi
}

case ${1:-} in
start) start ;;
await) await ;;
stop) stop ;;
*) die "usage: node.sh start|await|stop" ;;
esac
