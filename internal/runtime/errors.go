package runtime

// Error returns the failure in the words that runc uses.
func (e *StartError) Error() string { return e.Op + " " + e.Path + ": " + e.Errno.Error() }
