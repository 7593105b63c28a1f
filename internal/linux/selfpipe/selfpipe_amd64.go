package selfpipe

// restorerFlag is SA_RESTORER: without it the kernel does not take a handler.
const restorerFlag = 0x04000000
