#!/usr/bin/env bash
# Compares the micro-benchmarks of the working tree with those of another commit: both are built, then run in
# turn, ROUNDS times, and benchstat says which differences are more than noise.
#
#   scripts/bench-compare.sh REF [PATTERN]
#   ROUNDS=10 BENCHTIME=200ms PACKAGES="./wire ./server" scripts/bench-compare.sh HEAD~5 'PublishFrame|Append'
set -euo pipefail
cd "$(dirname "$0")/.."

ref=${1:?usage: bench-compare.sh REF [PATTERN]}
# Without a pattern: what is on the path of a message, and neither waits for a disk nor for a socket.
pattern=${2:-'^Benchmark(NextFrame|BuildBatch|Records|ParseAndValidate|Stamp|Append|Read|PublishFrame|FetchFrame|AckFrame|TextPublish|RouteBatchWithoutInterest|Match|InsertRemove|SteadyQueue|OrderedLeaseAndAck|PublishAsync)$'}
rounds=${ROUNDS:-6}
benchtime=${BENCHTIME:-200ms}
packages=${PACKAGES:-./wire ./log ./server ./group ./subject ./client}
benchstat=golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da

git rev-parse --verify --quiet "$ref^{commit}" >/dev/null || { echo "bench-compare: there is no commit $ref" >&2; exit 2; }
dir=$(mktemp -d)
cleanup() {
	git worktree remove --force "$dir/base" 2>/dev/null || true
	rm -rf "$dir"
}
trap cleanup EXIT
git worktree add --detach --quiet "$dir/base" "$ref"

for package in $packages; do
	go test -c -o "$dir/new-$(basename "$package").test" "$package"
	(cd "$dir/base" && if [ -d "$package" ]; then go test -c -o "$dir/old-$(basename "$package").test" "$package"; fi)
done
for round in $(seq "$rounds"); do
	for package in $packages; do
		for side in old new; do
			binary=$dir/$side-$(basename "$package").test
			[ -x "$binary" ] || continue
			printf '\r%s  %-20s %s/%s ' "$side" "$package" "$round" "$rounds" >&2
			(cd "$package" && "$binary" -test.run '^$' -test.bench "$pattern" -test.benchtime "$benchtime" -test.benchmem) >>"$dir/$side.txt"
		done
	done
done
printf '\n' >&2
go run "$benchstat" "$ref=$dir/old.txt" "here=$dir/new.txt"
