// Package volume keeps data that outlives containers: named directories below
// the data root (driver "local"), each with a record.
//
// A volume is created by writing its record durably and then its directory;
// use without a record is impossible, a record without a directory is mended
// at the next use. It is removed in the other order, the files in the
// background from a trash directory that New clears.
//
// Concurrency: one mutex guards the table; it is not held during I/O on files.
// Whoever uses a volume holds a reference by container id; a volume with
// references is not removed. References are not persisted: the engine makes
// them anew from the containers' records.
package volume
