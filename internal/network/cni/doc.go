// Package cni runs plugins of the Container Network Interface, version 1.0: the
// programs that give a container's network namespace an interface, and take it
// back.
//
//	/etc/cni/net.d/x.conflist      names plugins, one after the other
//	/usr/lib/cni/bridge            one of them: the configuration comes by its
//	                               standard input, what is asked for by CNI_COMMAND
//	                               and further variables, and the result of the one
//	                               before as "prevResult"; it answers with JSON
//
// A Conf is what the files said when they were read: it can be kept, so that DEL
// is asked of the plugins that did ADD, with the same words.
//
// Concurrency: no state.
//
// Source: https://www.cni.dev/docs/spec/ (1.0.0), "conventions".
package cni
