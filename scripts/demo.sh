#!/usr/bin/env bash
# What the demos share: source it. It builds nothing; RAFKA names the program, bin/rafka by default.
# Every broker gets free ports and a data directory below one temporary directory; brokers are ended
# by process id, and the directory is removed, whatever the outcome.
set -euo pipefail

RAFKA=$(realpath "${RAFKA:-$(dirname "${BASH_SOURCE[0]}")/../bin/rafka}")
for name in $(compgen -v RAFKA_ || true); do unset "$name"; done

DIR=$(mktemp -d)
PIDS=()

finish() {
	local code=$?
	for pid in ${PIDS[@]+"${PIDS[@]}"}; do kill "$pid" 2>/dev/null || true; done
	for pid in ${PIDS[@]+"${PIDS[@]}"}; do wait "$pid" 2>/dev/null || true; done
	if [ $code -ne 0 ]; then
		for log in "$DIR"/*.log; do
			[ -s "$log" ] && { echo "--- $log" >&2; tail -n 20 "$log" >&2; }
		done
	fi
	rm -rf "$DIR"
	exit $code
}
trap finish EXIT

rafka() { "$RAFKA" "$@"; }

say() { echo "$(basename "$0" .sh): $*"; }

fail() {
	echo "$(basename "$0" .sh): FAILED: $*" >&2
	exit 1
}

# same WHAT WANT GOT
same() {
	[ "$2" = "$3" ] || fail "$1: want"$'\n'"$2"$'\n'"got"$'\n'"$3"
}

# until_true WHAT COMMAND... repeats the command until it succeeds, for at most 20 seconds.
until_true() {
	local what=$1 deadline=$((SECONDS + 20))
	shift
	until "$@"; do
		[ $SECONDS -lt $deadline ] || fail "timed out: $what"
		sleep 0.05
	done
}

# start_broker NAME FLAGS... starts a broker and sets PID and ADDRESS.
start_broker() {
	local name=$1 file=$DIR/$1.addr
	shift
	rm -f "$file"
	"$RAFKA" serve --data "$DIR/$name" --admin off --port-file "$file" "$@" 2>>"$DIR/$name.log" &
	PID=$!
	PIDS+=("$PID")
	until_true "broker $name starts" started "$file" "$PID"
	ADDRESS=$(head -n 1 "$file")
}

started() {
	kill -0 "$2" 2>/dev/null || fail "the broker ended at once"
	[ -s "$1" ]
}

stop_broker() {
	kill "$1"
	wait "$1" || fail "the broker did not stop in order: exit code $?"
}
