"""Test Anything Protocol, version 13: one line for each check."""
import sys
import traceback

_checks = []


def check(f):
    """Registers a function as a check; its first line of documentation names it."""
    _checks.append(f)
    return f


def run(*args):
    """Runs all checks in the order of the file."""
    failed = 0
    print("TAP version 13")
    for n, f in enumerate(_checks, 1):
        name = (f.__doc__ or f.__name__).splitlines()[0]
        try:
            f(*args)
        except BaseException:
            failed += 1
            print("not ok %d - %s" % (n, name))
            for line in traceback.format_exc().splitlines():
                print("    " + line)
        else:
            print("ok %d - %s" % (n, name))
        sys.stdout.flush()
    print("1..%d" % len(_checks))
    sys.exit(1 if failed else 0)


def same(got, want):
    assert got == want, "%r, want %r" % (got, want)


def has(text, part):
    assert part in text, "%r lacks %r" % (text, part)


def raises(kind, text, f, *args, **kw):
    """Runs f, which must raise an exception of a kind that says a text."""
    try:
        f(*args, **kw)
    except kind as e:
        has(str(e), text)
        return e
    raise AssertionError("no %s" % kind.__name__)
