#!/usr/bin/python3
"""What python3-docker (docker-py) does with an engine: $DOCKER_HOST, and an
image with a shell, $IMAGE."""
import io
import os
import queue
import tarfile
import threading
import time

import docker
from docker.errors import APIError, BuildError, ContainerError, ImageNotFound, NotFound
from docker.types import Healthcheck, IPAMConfig, IPAMPool, LogConfig, Mount, Ulimit

from tap import check, has, raises, run, same

IMAGE = os.environ["IMAGE"]
NET = os.environ["NET"]  # the first three numbers of a subnet that nobody has
LABEL = {"conformance": "python"}


def sleeper(c, name=None, command=("sleep", "1000"), **kw):
    return c.containers.run(IMAGE, list(command), name=name, detach=True, labels=LABEL,
                            init=True, **kw)


def poll(ok, most=30):
    """Asks until the answer is yes."""
    end = time.monotonic() + most
    while not ok():
        assert time.monotonic() < end, "it never is"
        time.sleep(0.02)


def settled(box):
    """Waits until init has started the command: nothing hears a signal before."""
    poll(lambda: sum(p[-1] == "sleep 1000" for p in box.top()["Processes"]))


class Gone:
    """A container for the length of a block."""

    def __init__(self, container):
        self.c = container

    def __enter__(self):
        return self.c

    def __exit__(self, *_):
        self.c.remove(force=True, v=True)


def archive(**files):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as t:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            info.mode = 0o640
            t.addfile(info, io.BytesIO(content))
    return out.getvalue()


def members(chunks):
    data = io.BytesIO(b"".join(chunks))
    with tarfile.open(fileobj=data) as t:
        return {m.name: t.extractfile(m).read() if m.isfile() else None for m in t}


def follow(iterator):
    """Reads an iterator in a thread; the queue gives what it yields."""
    q = queue.Queue()

    def read():
        try:
            for item in iterator:
                q.put(item)
        except Exception as e:  # the stream was closed
            q.put(e)

    threading.Thread(target=read, daemon=True).start()
    return q


def until(q, ok, most=30):
    """Takes from a queue until something is as wanted."""
    seen = []
    while True:
        try:
            seen.append(q.get(timeout=most))
        except queue.Empty:
            raise AssertionError("not in %r" % seen)
        if ok(seen[-1]):
            return seen


@check
def ping(c):
    """system: ping, version, info"""
    assert c.ping()
    v = c.version()
    for key in ("Version", "ApiVersion", "MinAPIVersion", "GitCommit", "GoVersion", "Os",
                "Arch", "KernelVersion", "Platform", "Components"):
        assert key in v, key
    i = c.info()
    for key in ("ID", "Containers", "ContainersRunning", "Images", "Driver", "DriverStatus",
                "Plugins", "MemoryLimit", "SwapLimit", "NCPU", "MemTotal", "Name", "Labels",
                "ServerVersion", "Runtimes", "DefaultRuntime", "Swarm", "SecurityOptions",
                "CgroupDriver", "CgroupVersion", "OperatingSystem", "OSType", "Architecture",
                "RegistryConfig", "DockerRootDir"):
        assert key in i, key
    same(i["Swarm"]["LocalNodeState"], "inactive")


@check
def df(c):
    """system: df"""
    d = c.df()
    for key in ("LayersSize", "Images", "Containers", "Volumes", "BuildCache"):
        assert key in d, key


@check
def run_output(c):
    """containers: run gives the output, its two streams apart"""
    same(c.containers.run(IMAGE, ["echo", "one"], remove=True), b"one\n")
    same(c.containers.run(IMAGE, ["sh", "-c", "echo out; echo err >&2"], remove=True,
                          stdout=False, stderr=True), b"err\n")
    e = raises(ContainerError, "exit status 7", c.containers.run, IMAGE,
               ["sh", "-c", "echo bad >&2; exit 7"], remove=True)
    same(e.exit_status, 7)
    same(e.stderr, b"bad\n")


@check
def not_found(c):
    """errors: containers, images, networks, volumes that are not there"""
    raises(NotFound, "No such container: nosuch", c.containers.get, "nosuch")
    raises(ImageNotFound, "No such image: nosuch", c.images.get, "nosuch")
    raises(NotFound, "network nosuch not found", c.networks.get, "nosuch")
    raises(NotFound, "get nosuch: no such volume", c.volumes.get, "nosuch")
    raises(APIError, "Invalid container name", c.containers.create, IMAGE, name="a/b")


@check
def life(c):
    """containers: create, start, pause, rename, restart, stop, kill, wait, remove"""
    box = c.containers.create(IMAGE, ["sleep", "1000"], name="py-life", labels=LABEL, init=True,
                              environment={"A": "b"}, hostname="there", working_dir="/tmp",
                              user="1:2", stop_signal="SIGTERM")
    with Gone(box):
        same(box.status, "created")
        box.start()
        box.reload()
        same(box.status, "running")
        same(box.attrs["Config"]["Env"][0], "A=b")
        same(box.attrs["Config"]["Hostname"], "there")
        same(box.name, "py-life")
        box.pause()
        box.reload()
        same(box.status, "paused")
        raises(APIError, "is paused", box.exec_run, "true")
        box.unpause()
        box.rename("py-life2")
        first = box.attrs["State"]["StartedAt"]
        settled(box)
        box.restart(timeout=30)
        box.reload()
        same(box.name, "py-life2")
        assert box.attrs["State"]["StartedAt"] > first
        raises(APIError, "is already in use by container", c.containers.create, IMAGE, name="py-life2")
        raises(APIError, "stop the container before", box.remove)
        settled(box)
        box.stop(timeout=30)
        same(box.wait()["StatusCode"], 143)
        box.start()
        box.kill(signal="KILL")
        same(box.wait(condition="not-running")["StatusCode"], 137)
    raises(NotFound, "No such container", c.containers.get, "py-life2")


@check
def wait_next(c):
    """containers: wait for the next exit and for removal"""
    box = sleeper(c, command=("sh", "-c", "read x; exit 5"), stdin_open=True, auto_remove=True)
    waits = [c.api._post(c.api._url("/containers/{0}/wait", box.id), params={"condition": condition}, stream=True)
             for condition in ("next-exit", "removed")]  # the answers have begun: both wait
    s = box.attach_socket(params={"stdin": 1, "stream": 1})
    s._sock.sendall(b"go\n")
    same([w.json()["StatusCode"] for w in waits], [5, 5])
    s.close()


@check
def limits(c):
    """containers: limits, update, inspect"""
    with Gone(sleeper(c, mem_limit="64m", memswap_limit="64m", nano_cpus=500000000, pids_limit=50,
                      cpu_shares=512, ulimits=[Ulimit(name="nofile", soft=512, hard=512)],
                      cap_drop=["ALL"], cap_add=["CHOWN"], read_only=True, tmpfs={"/t": "size=1m"},
                      shm_size="8m", sysctls={"net.ipv4.ip_forward": "0"}, oom_score_adj=100,
                      dns=["127.0.0.9"], extra_hosts={"there": "10.1.2.3"}, group_add=["7"],
                      restart_policy={"Name": "on-failure", "MaximumRetryCount": 3},
                      security_opt=["no-new-privileges"], log_config=LogConfig(type="json-file", config={"max-size": "1m"}),
                      healthcheck=Healthcheck(test=["CMD", "true"], interval=1000000000))) as box:
        box.reload()
        h = box.attrs["HostConfig"]
        same(h["Memory"], 64 << 20)
        same(h["NanoCpus"], 500000000)
        same(h["PidsLimit"], 50)
        same(h["RestartPolicy"], {"Name": "on-failure", "MaximumRetryCount": 3})
        same(h["LogConfig"], {"Type": "json-file", "Config": {"max-size": "1m"}})
        same(h["Ulimits"], [{"Name": "nofile", "Hard": 512, "Soft": 512}])
        _, out = box.exec_run(["sh", "-c", "cat /etc/hosts; df /t; id; touch /x || echo read-only; grep NoNewPrivs /proc/self/status"])
        text = out.decode()
        has(text, "10.1.2.3\tthere")
        has(text, "groups=0(root),7")
        has(text, "read-only")
        has(text, "NoNewPrivs:\t1")
        box.update(mem_limit="128m", memswap_limit="128m", restart_policy={"Name": "no"}, cpu_shares=256)
        box.reload()
        same(box.attrs["HostConfig"]["Memory"], 128 << 20)
        same(box.attrs["HostConfig"]["CpuShares"], 256)


@check
def health(c):
    """containers: health"""
    with Gone(sleeper(c, healthcheck=Healthcheck(test=["CMD-SHELL", "echo fine"], interval=200000000,
                                                 retries=1, start_period=0))) as box:
        q = follow(c.events(decode=True, since=0, filters={"event": "health_status", "container": box.id}))
        until(q, lambda e: e["Action"] == "health_status: healthy")
        box.reload()
        same(box.attrs["State"]["Health"]["Status"], "healthy")
        same(box.attrs["State"]["Health"]["Log"][0]["Output"], "fine\n")


@check
def lists(c):
    """containers: list with filters, sparse, limit, since, before"""
    with Gone(sleeper(c, "py-a")) as a, Gone(sleeper(c, "py-b")) as b:
        ids = lambda **kw: [x.name for x in c.containers.list(**kw)]
        same(ids(filters={"label": "conformance=python"}), ["py-b", "py-a"])
        same(ids(filters={"name": "^/py-a$"}), ["py-a"])
        b.kill()
        b.wait()
        same(ids(filters={"label": ["conformance"]}), ["py-a"])
        same(ids(all=True, filters={"status": "exited", "label": ["conformance"]}), ["py-b"])
        same(ids(all=True, filters={"exited": 137, "label": ["conformance"]}), ["py-b"])
        same(ids(all=True, limit=1), ["py-b"])
        same(ids(all=True, filters={"since": a.id}), ["py-b"])
        same(ids(all=True, filters={"before": "py-b", "label": ["conformance"]}), ["py-a"])
        same(ids(all=True, filters={"ancestor": IMAGE, "name": "py-"}), ["py-b", "py-a"])
        same([x.id for x in c.containers.list(sparse=True, filters={"name": "py-a"})], [a.id])
        raises(APIError, "invalid filter", c.containers.list, filters={"nosuch": "x"})
        low = c.api.containers(all=True, size=True, filters={"name": "py-a"})[0]
        same(low["State"], "running")
        assert low["SizeRootFs"] > 0
        has(low["Status"], "Up")


@check
def logs(c):
    """logs: all, tail, timestamps, since, streams, follow"""
    with Gone(sleeper(c, command=("sh", "-c", "echo 1; echo 2 >&2; echo 3; read x; echo last"), stdin_open=True)) as box:
        q = follow(box.logs(stream=True, follow=True))
        lines = lambda b: sorted(b.decode().split())
        got = []
        while len(got) < 3:
            got += q.get(timeout=30).decode().split()
        same(sorted(got), ["1", "2", "3"])
        same(lines(box.logs()), ["1", "2", "3"])
        same(lines(box.logs(stdout=False)), ["2"])
        same(lines(box.logs(stderr=False, tail=3)), ["1", "3"])
        same(len(lines(box.logs(tail=1))), 1)
        has(box.logs(timestamps=True, stderr=False).decode().splitlines()[0], "Z 1")
        same(box.logs(since=4000000000), b"")
        same(box.logs(until=1), b"")
        s = box.attach_socket(params={"stdin": 1, "stream": 1})
        s._sock.sendall(b"x\n")
        until(q, lambda b: b == b"last\n")
        s.close()
        box.wait()


@check
def attach(c):
    """attach: output of a container, standard input"""
    box = c.containers.create(IMAGE, ["cat"], stdin_open=True, labels=LABEL)
    with Gone(box):
        out = follow(box.attach(stream=True, logs=True))
        box.start()
        box.reload()
        s = c.api.attach_socket(box.id, params={"stdin": 1, "stream": 1})
        s._sock.sendall(b"hello\n")
        until(out, lambda b: b == b"hello\n")
        s.close()


@check
def attach_tty(c):
    """attach: terminal, resize"""
    box = c.containers.create(IMAGE, ["sh"], tty=True, stdin_open=True, labels=LABEL)
    with Gone(box):
        s = box.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
        box.start()
        box.resize(height=40, width=100)
        s._sock.settimeout(30)
        s._sock.sendall(b"tty; echo $((6*7))\n")
        seen = b""
        while b"42\r\n" not in seen:
            seen += s._sock.recv(1000)
        has(seen, b"/dev/")
        s._sock.sendall(b"exit 3\n")
        same(box.wait()["StatusCode"], 3)


@check
def execs(c):
    """exec: exit code, streams, environment, user, directory, detach, inspect"""
    with Gone(sleeper(c)) as box:
        same(box.exec_run("echo hello"), (0, b"hello\n"))
        same(box.exec_run(["sh", "-c", "exit 9"])[0], 9)
        same(box.exec_run(["sh", "-c", "echo $A; pwd; id -u"], environment={"A": "b"}, workdir="/tmp",
                          user="5").output, b"b\n/tmp\n5\n")
        same(box.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True).output, (b"o\n", b"e\n"))
        chunks = box.exec_run(["sh", "-c", "echo o; echo e >&2"], stream=True).output
        same(sorted(b"".join(chunks).split()), [b"e", b"o"])
        same(box.exec_run(["no-such-program"])[0], 127)
        e = c.api.exec_create(box.id, ["sh", "-c", "sleep 1000"])
        c.api.exec_start(e["Id"], detach=True)
        i = c.api.exec_inspect(e["Id"])
        same(i["Running"], True)
        same(i["ContainerID"], box.id)
        assert i["Pid"] > 0
        box.reload()
        has(box.attrs["ExecIDs"], e["Id"])
        raises(NotFound, "No such exec instance: nosuch", c.api.exec_inspect, "nosuch")


@check
def exec_tty(c):
    """exec: terminal, standard input, resize"""
    with Gone(sleeper(c)) as box:
        e = c.api.exec_create(box.id, ["sh"], tty=True, stdin=True)
        s = c.api.exec_start(e["Id"], socket=True, tty=True)
        s._sock.settimeout(30)
        c.api.exec_resize(e["Id"], height=33, width=77)
        s._sock.sendall(b"tty; echo $((6*7)); exit 4\n")
        seen = b""
        while True:
            b = s._sock.recv(1000)
            if not b:
                break
            seen += b
        has(seen, b"/dev/pts")
        has(seen, b"42\r\n")
        same(c.api.exec_inspect(e["Id"])["ExitCode"], 4)


@check
def top(c):
    """containers: top, diff, stats"""
    with Gone(sleeper(c, mem_limit="64m", command=("sh", "-c", "touch /new; rm /etc/os-release; sleep 1000"))) as box:
        settled(box)
        has(box.top()["Titles"], "CMD")
        has(box.top(ps_args="-o pid,comm")["Titles"], "COMMAND")
        poll(lambda: {"Path": "/new", "Kind": 1} in (box.diff() or []))
        s = box.stats(stream=False)
        for key in ("read", "preread", "cpu_stats", "precpu_stats", "memory_stats", "pids_stats", "blkio_stats", "networks", "name", "id", "num_procs"):
            assert key in s, key
        same(s["memory_stats"]["limit"], 64 << 20)
        same(s["name"], "/" + box.name)
        stream = box.stats(stream=True, decode=True)
        one, two = next(stream), next(stream)
        same(two["precpu_stats"]["cpu_usage"], one["cpu_stats"]["cpu_usage"])
        assert two["cpu_stats"]["system_cpu_usage"] > one["cpu_stats"]["system_cpu_usage"]
        assert one["cpu_stats"]["online_cpus"] > 0
        stream.close()


@check
def copy(c):
    """copy: into a container, out of it, errors"""
    with Gone(sleeper(c)) as box:
        assert box.put_archive("/tmp", archive(a=b"one", b=b"two"))
        same(box.exec_run("cat /tmp/a /tmp/b").output, b"onetwo")
        chunks, stat = box.get_archive("/tmp/a")
        same(stat["name"], "a")
        same(stat["size"], 3)
        same(members(chunks), {"a": b"one"})
        chunks, stat = box.get_archive("/tmp")
        same(members(chunks), {"tmp": None, "tmp/a": b"one", "tmp/b": b"two"})
        raises(NotFound, "Could not find the file /nosuch in container", box.get_archive, "/nosuch")
        raises(NotFound, "Could not find the file /nosuch in container", box.put_archive, "/nosuch", archive(a=b"x"))


@check
def export_commit(c):
    """containers: export, commit"""
    with Gone(sleeper(c, command=("sh", "-c", "echo kept > /kept; exit 0"))) as box:
        box.wait()
        same(members(box.export())["kept"], b"kept\n")
        i = box.commit("conformance/python", tag="v1", message="a word", author="somebody",
                       changes=["ENV Z=1", 'CMD ["cat", "/kept"]'])
        try:
            same(i.tags, ["conformance/python:v1"])
            same(i.attrs["Author"], "somebody")
            same(i.history()[0]["Comment"], "a word")
            same(c.containers.run(i, remove=True), b"kept\n")
        finally:
            c.images.remove("conformance/python:v1")


@check
def images_build(c):
    """images: build"""
    i, lines = c.images.build(fileobj=io.BytesIO(b"FROM " + IMAGE.encode() + b"\nARG A\nRUN echo built $A > /f\n"),
                              tag="conformance/built:v1", buildargs={"A": "b"}, labels={"conformance": "built"})
    assert any("Successfully tagged conformance/built:v1" in l.get("stream", "") for l in lines)
    same(i.labels["conformance"], "built")
    same(c.containers.run(i, ["cat", "/f"], remove=True), b"built b\n")
    c.images.remove("conformance/built:v1")
    e = raises(BuildError, "returned a non-zero code: 7", c.images.build,
               fileobj=io.BytesIO(b"FROM " + IMAGE.encode() + b"\nRUN exit 7\n"))
    assert "Step 2/2" in "".join(l.get("stream", "") for l in e.build_log)
    c.api.prune_builds()


@check
def images(c):
    """images: get, list, tag, history, save, load, remove"""
    i = c.images.get(IMAGE)
    assert i.id.startswith("sha256:") and i.short_id and i.tags
    for key in ("Architecture", "Os", "RootFS", "Config", "Size", "RepoDigests", "Created", "GraphDriver"):
        assert key in i.attrs, key
    assert i.tag("conformance/py", "t1") and i.tag("conformance/py", "t2")
    same([x.id for x in c.images.list(name="conformance/py")], [i.id])
    same(sorted(t for t in c.images.get("conformance/py:t1").tags if "conformance" in t),
         ["conformance/py:t1", "conformance/py:t2"])
    raises(APIError, "invalid", i.tag, "UPPER")
    data = b"".join(c.images.get("conformance/py:t1").save(named="conformance/py:t1"))
    c.images.remove("conformance/py:t1")
    raises(ImageNotFound, "No such image: conformance/py:t1", c.images.get, "conformance/py:t1")
    loaded = c.images.load(data)
    same([x.id for x in loaded], [i.id])
    has(loaded[0].tags, "conformance/py:t1")
    c.images.remove("conformance/py:t1")
    c.images.remove("conformance/py:t2", noprune=True)
    raises(APIError, "invalid filter", c.images.list, filters={"nosuch": "x"})


@check
def images_import(c):
    """images: import, dangling, prune, in use"""
    c.api.import_image_from_data(archive(file=b"content"), repository="conformance/imported", tag="x",
                                 changes=["LABEL conformance=python"])
    i = c.images.get("conformance/imported:x")
    same(i.labels, LABEL)
    c.api.import_image_from_data(archive(file=b"other"), repository="conformance/imported", tag="x",
                                 changes=["LABEL conformance=python"])
    same([x.id for x in c.images.list(filters={"dangling": True, "label": "conformance"})], [i.id])
    p = c.images.prune(filters={"dangling": True, "label": "conformance"})
    has(str(p["ImagesDeleted"]), i.id)
    box = c.containers.create("conformance/imported:x", ["x"])
    with Gone(box):
        raises(APIError, "conflict: unable to remove repository reference", c.images.remove, "conformance/imported:x")
    c.images.remove("conformance/imported:x")


@check
def pull(c):
    """images: pull from a registry that is not there"""
    raises(APIError, "connection refused", c.images.pull, "127.0.0.1:1/nosuch", tag="latest")


@check
def networks(c):
    """networks: create, addresses, connect, aliases, disconnect, list, remove"""
    n = c.networks.create("py-net", driver="bridge", labels=LABEL, internal=False, attachable=True,
                          options={"com.docker.network.bridge.enable_icc": "true"},
                          ipam=IPAMConfig(pool_configs=[IPAMPool(subnet="%s.0/24" % NET, gateway="%s.1" % NET)]))
    other = c.networks.create("py-net2", labels=LABEL)
    try:
        same(n.attrs["IPAM"]["Config"], [{"Subnet": NET + ".0/24", "Gateway": NET + ".1"}])
        same(n.attrs["Labels"], LABEL)
        same(sorted(x.name for x in c.networks.list(filters={"label": "conformance"})), ["py-net", "py-net2"])
        same([x.name for x in c.networks.list(names=["py-net2"])], ["py-net2"])
        with Gone(sleeper(c, "py-one", network="py-net")) as one:
            with Gone(sleeper(c, "py-two")) as two:
                n.connect(two, ipv4_address=NET + ".9", aliases=["second"])
                same(one.exec_run("nslookup second").exit_code, 0)
                two.reload()
                e = two.attrs["NetworkSettings"]["Networks"]["py-net"]
                same(e["IPAddress"], NET + ".9")
                has(e["Aliases"], "second")
                n.reload()
                same({x.name for x in n.containers}, {"py-one", "py-two"})
                raises(APIError, "has active endpoints", n.remove)
                n.disconnect(two)
                two.reload()
                assert "py-net" not in two.attrs["NetworkSettings"]["Networks"]
                raises(APIError, "is not connected to", n.disconnect, two)
                other.connect(two)
                other.disconnect(two, force=True)
        box = c.api.create_container(IMAGE, ["sleep", "1000"], labels=LABEL,
                                     host_config=c.api.create_host_config(network_mode="py-net"),
                                     networking_config=c.api.create_networking_config({"py-net": c.api.create_endpoint_config(ipv4_address=NET + ".20", aliases=["third"])}))
        with Gone(c.containers.get(box["Id"])) as box:
            box.start()
            box.reload()
            same(box.attrs["NetworkSettings"]["Networks"]["py-net"]["IPAddress"], NET + ".20")
    finally:
        n.remove()
        other.remove()
    raises(NotFound, "network py-net not found", c.networks.get, "py-net")
    raises(APIError, "is a pre-defined network and cannot be removed", c.networks.get("bridge").remove)
    same(c.networks.prune(filters={"label": "conformance"}), {"NetworksDeleted": None})


@check
def ports(c):
    """networks: published ports"""
    with Gone(sleeper(c, command=("httpd", "-f", "-h", "/etc", "-p", "80"), ports={"80/tcp": ("127.0.0.1", None), "81/udp": None})) as box:
        box.reload()
        p = box.ports["80/tcp"][0]
        same(p["HostIp"], "127.0.0.1")
        assert int(p["HostPort"]) > 0
        same(c.api.port(box.id, 80), [p])
        assert c.api.containers(filters={"id": box.id})[0]["Ports"]


@check
def volumes(c):
    """volumes: create, use, list, inspect, remove, prune, mounts"""
    v = c.volumes.create("py-vol", labels=LABEL)
    try:
        same(v.attrs["Driver"], "local")
        same(v.attrs["Labels"], LABEL)
        same(v.attrs["Scope"], "local")
        c.containers.run(IMAGE, ["sh", "-c", "echo kept > /v/f"], volumes={"py-vol": {"bind": "/v", "mode": "rw"}}, remove=True)
        same(c.containers.run(IMAGE, ["cat", "/v/f"], mounts=[Mount("/v", "py-vol", read_only=True)], remove=True), b"kept\n")
        same([x.name for x in c.volumes.list(filters={"label": "conformance"})], ["py-vol"])
        with Gone(sleeper(c, mounts=[Mount("/v", "py-vol"), Mount("/t", None, type="tmpfs", tmpfs_size="1m"), Mount("/h", "/tmp", type="bind", read_only=True)])) as box:
            raises(APIError, "volume is in use", v.remove)
            box.reload()
            same(sorted((m["Type"], m["Destination"], m["RW"]) for m in box.attrs["Mounts"]),
                 [("bind", "/h", False), ("tmpfs", "/t", True), ("volume", "/v", True)])
    finally:
        v.remove()
    anonymous = c.volumes.create(labels=LABEL)
    p = c.volumes.prune(filters={"label": "conformance"})
    same(p["VolumesDeleted"], [anonymous.name])


@check
def events(c):
    """events: of a life, with filters, since and until"""
    q = follow(c.events(decode=True, filters={"label": "conformance=python", "type": "container"}))
    box = c.containers.create(IMAGE, ["true"], labels=LABEL, name="py-events")
    box.start()
    box.wait()
    box.remove()
    seen = until(q, lambda e: e["Action"] == "destroy")
    same([e["Action"] for e in seen if not e["Action"].startswith("attach")], ["create", "start", "die", "destroy"])
    die = [e for e in seen if e["Action"] == "die"][0]
    same(die["Actor"]["Attributes"]["exitCode"], "0")
    same(die["Actor"]["Attributes"]["name"], "py-events")
    same(die["Actor"]["ID"], box.id)
    for key in ("time", "timeNano", "scope"):  # "status", "id" and "from" went with API 1.52
        assert key in die, key
    past = list(c.events(decode=True, since=seen[0]["time"], until=seen[-1]["time"] + 1, filters={"container": "py-events"}))
    same([e["Action"] for e in past], [e["Action"] for e in seen])


@check
def prune(c):
    """containers: prune"""
    box = sleeper(c, command=("true",))
    box.wait()
    p = c.containers.prune(filters={"label": "conformance=python"})
    same(p["ContainersDeleted"], [box.id])
    assert "SpaceReclaimed" in p


@check
def swarm(c):
    """swarm: an engine outside of one"""
    e = raises(APIError, "This node is not a swarm manager", c.services.list)
    same(e.status_code, 503)
    raises(APIError, "This node is not a swarm manager", c.nodes.list)
    raises(APIError, "This node is not part of a swarm", c.swarm.leave)


@check
def plugins(c):
    """plugins: list"""
    same(c.plugins.list(), [])


@check
def login(c):
    """registry: login to one that is not there"""
    raises(APIError, "connection refused", c.login, "user", password="x", registry="http://127.0.0.1:1/v2/", reauth=True)


run(docker.DockerClient(base_url=os.environ["DOCKER_HOST"], version="auto", timeout=60))
