package wire

// Limits that both sides enforce. The broker's hello reply names lower ones if it is configured so.
const (
	// MaxFrameBytes bounds a whole frame from a client, and so what it can make the broker buffer.
	MaxFrameBytes = 8 << 20
	// MaxReplyBytes bounds a whole frame from the broker. What fills a request must fit a frame with the stamps and
	// positions of a delivery, and with the ranges of a lease, which take up to 1 MiB.
	MaxReplyBytes = MaxFrameBytes + 1<<20
	// MaxHelloBytes bounds the first frame, which is read before the client is authenticated.
	MaxHelloBytes = 4 << 10
	// DefaultMaxRecordBytes is the default limit of one record's key, value and headers together.
	DefaultMaxRecordBytes = 1 << 20
	// MaxRecordBytes bounds an encoded record, and so what a topic's limit may be. It leaves room in a frame for the
	// headers of the frame and the batch, and for those of a dead letter: 984 bytes with the longest names and reason.
	MaxRecordBytes = MaxFrameBytes - 1<<10
	// MaxTopicName is the longest topic name in bytes; it also fits a file name.
	MaxTopicName = 255
	// MaxGroupName is the longest group name in bytes.
	MaxGroupName = 255
	// MaxMemberName is the longest id of a group's member, and of an instance, in bytes.
	MaxMemberName = 255
	// MaxKeyBytes is the longest record key.
	MaxKeyBytes = 64 << 10
	// MaxHeaderBytes bounds all headers of one record together, names and values.
	MaxHeaderBytes = 64 << 10
	// MaxSubjectBytes is the longest subject of a record.
	MaxSubjectBytes = 4 << 10
	// MaxPartitions bounds the partitions of one topic.
	MaxPartitions = 1024
	// MaxBatchRecords bounds the records of one batch, so that a count read from the network can
	// never overflow or reserve more than a few megabytes.
	MaxBatchRecords = 1 << 20
	// MaxTTLMs bounds a batch's time to live, in milliseconds: a hundred years, so that adding it to
	// a time cannot overflow.
	MaxTTLMs = 100 * 366 * 24 * 3600 * 1000
	// MaxMessageID is the longest message id in bytes.
	MaxMessageID = 255
	// MaxDecompressedBytes bounds the decompressed size of the records of a batch.
	MaxDecompressedBytes = 64 << 20
)
