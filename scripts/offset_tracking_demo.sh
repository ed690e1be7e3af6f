#!/usr/bin/env bash
# A consumer that comes back under the same group name goes on where it stopped, also after the
# broker was restarted; a consumer under a new name starts at the beginning.
source "$(dirname "$0")/demo.sh"

consume() { rafka consume greetings --group "$1" -n "$2" --from start --for 20s -o raw 2>>"$DIR/consumer.log"; }

start_broker broker --port 0
export RAFKA_SERVER=$ADDRESS
say "broker on $ADDRESS"

for i in 1 2 3; do rafka pub greetings "Batch1-Message$i" >/dev/null; done
same "the first run" "$(printf 'Batch1-Message%d\n' 1 2 3)" "$(consume tracker 3)"
say "the first run received messages 1 to 3"

stop_broker "$PID"
start_broker broker --port 0
export RAFKA_SERVER=$ADDRESS
say "broker restarted on $ADDRESS"

for i in 4 5 6; do rafka pub greetings "Batch2-Message$i" >/dev/null; done
same "the second run" "$(printf 'Batch2-Message%d\n' 4 5 6)" "$(consume tracker 3)"
say "the second run went on with messages 4 to 6"

all=$(printf 'Batch1-Message%d\n' 1 2 3; printf 'Batch2-Message%d\n' 4 5 6)
same "a new group" "$all" "$(consume newcomer 6)"
say "a new group received all 6 messages"
