#!/usr/bin/env bash
# Messages older than the retention time go away, also while nobody publishes; newer ones stay, and
# offsets are never used again.
source "$(dirname "$0")/demo.sh"

start_broker broker --port 0 --retention-seconds 2
export RAFKA_SERVER=$ADDRESS
say "broker on $ADDRESS keeps messages for 2 seconds"

for i in 1 2 3 4 5; do rafka pub greetings "Message-$i" >/dev/null; done

records() { rafka topic info greetings -o jsonl | sed 's/.*"messages":\([0-9]*\).*/\1/'; }
holds() { [ "$(records)" = "$1" ]; }

same "messages stored" 5 "$(records)"
say "5 messages stored"
until_true "the old messages expire" holds 0
same "what a reader finds" "" "$(rafka sub greetings --from start --exit-on-end -o raw 2>/dev/null)"
say "0 messages stored after the retention time, with nobody publishing"

published=$(for i in 6 7 8 9 10; do rafka pub greetings "Message-$i"; done)
same "where new messages go" "$(printf 'greetings/0@%d\n' 5 6 7 8 9)" "$published"
say "new messages continue at offset 5"
