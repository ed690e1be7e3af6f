package main

// summaryRow is a row of the table in the README: one figure, of one system for each column.
type summaryRow struct {
	what     string
	scenario string
	figure   string
	unit     string   // behind each number; "" for messages a second
	systems  []string // ids in the order of summaryColumns; "" for none
}

var summaryColumns = []string{"measured", "Rafka", "NATS core", "JetStream", "Redis 7 streams", "NSQ"}

var summaryRows = []summaryRow{
	{"published, not acknowledged", "fire-and-forget publish, 128 B", "rate", "", []string{"rafka", "nats"}},
	{"each acknowledged, in memory", "publish acked, best window, 128 B", "rate", "", []string{"rafka", "", "js-memory", "redis"}},
	{"each acknowledged, on disk", "publish acked, best window, 128 B", "rate", "", []string{"rafka-disk", "", "js-sync", "redis-always"}},
	{"backlog read, from memory", "fetch a backlog of 1 GiB, 128 B", "rate", "", []string{"rafka", "", "js-memory", "redis"}},
	{"queue, each acknowledged", "queue consume with ack, 128 B", "rate", "", []string{"rafka", "", "js-memory", "redis", "nsq"}},
	{"one acknowledged at a time, on disk, p50", "publish acked, one in flight, 128 B", "p50", " us", []string{"rafka-disk", "", "js-sync", "redis-always"}},
	{"50,000 a second, publish to deliver, p99", "open loop, 50 k msg/s, 128 B", "deliver p99", " us", []string{"rafka", "nats", "js-file", "redis"}},
}

// summary returns the table of the README.
func (r *results) summary() string {
	t := table{}
	t.add(summaryColumns...)
	for _, row := range summaryRows {
		cells := []string{row.what}
		for i := range summaryColumns[1:] {
			cells = append(cells, r.summaryCell(row, i))
		}
		t.add(cells...)
	}
	return t.String()
}

// summaryCell returns the figure of a row's i-th system, or "-" if there is none.
func (r *results) summaryCell(row summaryRow, i int) string {
	if i >= len(row.systems) || row.systems[i] == "" {
		return "-"
	}
	c := r.cell(row.scenario, row.systems[i])
	text := c.text(row.figure)
	if _, ok := c.medians[row.figure]; ok {
		text += row.unit
	}
	return text
}
