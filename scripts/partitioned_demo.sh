#!/usr/bin/env bash
# Three brokers share a topic, one partition each. Ten messages go to the broker that owns their
# key, every consumer sees exactly its third, and a broker refuses a key that is not its own.
source "$(dirname "$0")/demo.sh"

addresses=()
for p in 0 1 2; do
	start_broker "broker$p" --port 0 --partition "$p" --total-partitions 3
	addresses+=("$ADDRESS")
	say "broker $p of 3 on $ADDRESS"
done

# The keys key-1, key-2 and key-3 belong to the partitions 0, 1 and 2.
want=("" "" "")
for i in 0 1 2 3 4 5 6 7 8 9; do
	p=$((i % 3))
	published=$(rafka pub greetings "Message-$i" --key "key-$((p + 1))" -s "${addresses[$p]}")
	same "where Message-$i went" "greetings/$p@$((i / 3))" "$published"
	want[p]+="Message-$i"$'\n'
done

for p in 0 1 2; do
	got=$(rafka sub greetings --partition "$p" --from start --exit-on-end -o raw -s "${addresses[$p]}" 2>>"$DIR/consumer.log")
	same "what consumer $p received" "$(printf %s "${want[$p]}")" "$got"
	say "consumer $p received: $(echo "$got" | tr '\n' ' ')"
done

code=0
rafka pub greetings lost --key key-2 -s "${addresses[0]}" >"$DIR/wrong" 2>"$DIR/refused" || code=$?
same "exit code of a publish to the wrong broker" 6 "$code"
grep -q NOT_OWNER "$DIR/refused" || fail "the refusal does not say why: $(cat "$DIR/refused")"
say "broker 0 refused key-2: $(head -n 1 "$DIR/refused")"
