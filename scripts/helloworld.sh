#!/usr/bin/env bash
# One broker, one consumer, one message: what is published is what is received.
source "$(dirname "$0")/demo.sh"

start_broker broker --port 0
export RAFKA_SERVER=$ADDRESS
say "broker on $ADDRESS"

rafka topic create greetings >/dev/null
rafka sub greetings --from end -n 1 --for 20s -o raw >"$DIR/received" 2>"$DIR/consumer.log" &
consumer=$!
PIDS+=("$consumer")
until_true "the consumer is subscribed" grep -q 'reading greetings' "$DIR/consumer.log"

published=$(rafka pub greetings 'Hello, World!')
same "where the message went" "greetings/0@0" "$published"
wait "$consumer" || fail "the consumer ended with exit code $?"

same "what was received" "Hello, World!" "$(cat "$DIR/received")"
say "Received message: $(cat "$DIR/received")"
