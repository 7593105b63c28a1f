// Package passwd finds out who a process of a container is: it resolves
// "user[:group]" in the container's own /etc/passwd and /etc/group.
//
// Sources: passwd(5), group(5); the syntax and the messages are those of
// docker run --user, by github.com/moby/sys/user.
package passwd
