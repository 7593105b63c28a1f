// Package failpoint lets a test end a program at a named place, as kill -9
// would: test/crash builds with the tag failpoint and shows for every place
// that the next start recovers. Without the tag a Hit is nothing at all.
//
// A place is named "package.what": "store.write" stands before a write,
// "store.written" after it.
package failpoint
