// Package caps names capabilities.
//
// Sources: capabilities(7), include/uapi/linux/capability.h. The names are those
// of the OCI runtime-spec: with the prefix CAP_, in upper case.
package caps
