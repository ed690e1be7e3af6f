package log

type files struct{}

type snapshot struct{}
