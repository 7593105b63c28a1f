package selfpipe

// restorerFlag is not needed: the kernel comes back by way of its own page.
const restorerFlag = 0
