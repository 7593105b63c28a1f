package cli

import (
	"slices"
	"strings"
	"testing"
)

// same is what both bodies say; what the two API libraries encode differently
// without meaning is left out.
func same(m map[string]any) map[string]string {
	if env, ok := m["Env"].([]any); ok {
		slices.SortFunc(env, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
	}
	if h, ok := m["HostConfig"].(map[string]any); ok {
		if b, ok := h["Binds"].([]any); ok { // Docker's come from a map
			slices.SortFunc(b, func(a, b any) int { return strings.Compare(a.(string), b.(string)) })
		}
	}
	delete(m, "OnBuild")
	return flat(m)
}

func TestCreateBody(t *testing.T) {
	t.Setenv("FROM_CLIENT", "yes")
	const (
		env, badEnv, labels = "testdata/flags/env", "testdata/flags/badenv", "testdata/flags/labels"
		seccomp, badSeccomp = "testdata/flags/seccomp.json", "testdata/flags/bad.json"
	)
	f := newFake(t)
	for _, line := range []string{
		"busybox",
		"busybox echo hello --not-a-flag",
		"-d --name full -p 127.0.0.1:28080:80 -p 28081:81/udp -v vol1:/data -v /tmp:/host:ro --tmpfs /t:size=1m busybox sleep 300",
		"-it busybox sh", "-i busybox cat", "-t busybox", "-a stdout busybox", "-a STDERR -a stdin busybox",
		// variables and labels
		"-e X=1 -e Y= -e FROM_CLIENT -e NOT_THERE busybox", "-e =1 busybox", "--env-file " + env + " -e A=2 busybox", "--env-file " + badEnv + " busybox", "--env-file /nonexist busybox",
		"-l a=b --label c -l d=e=f busybox", "--label-file " + labels + " -l x=z busybox", "-l =x busybox",
		// ports
		"-p 80 busybox", "-p 8080:80 busybox", "-p 8000-8002:80-82 busybox", "-p 8000-8010:80 busybox", "-p 8000-8002:80-85 busybox",
		"-p [::1]:80:80 busybox", "-p ::1:80:80 busybox", "-p 127.0.0.1::80/udp busybox", "-p 80/sctp busybox", "-p 80/icmp busybox", "-p 70000 busybox",
		"-p a:80 busybox", "-p published=80,target=8080 busybox", "-p published=80,target=53,protocol=udp busybox", "-p published=80,bad busybox", "-p 1.2.3:80:80 busybox", "-P busybox",
		"-p 127.0.0.1:80:80 -p 0.0.0.0:80:80 busybox", "-p 80:80/TCP busybox", "-p : busybox",
		"--expose 80 --expose 90-92/udp busybox", "--expose a busybox", "--expose 80:80 busybox", "-p 90:90 --expose 90 busybox",
		// volumes and mounts
		"-v /anon busybox", "-v ./x:/y busybox", "-v ../x:/y:ro,z busybox", "-v vol:/x:nocopy busybox", "-v a:b:c:d busybox", "-v :/x busybox", "-v x: busybox", "-v /a:/b -v /a:/b busybox", "-v ~/x:/y busybox", "-v . busybox",
		"--mount type=bind,src=/a,dst=/b busybox", "--mount type=bind,source=./a,target=/b,readonly,bind-propagation=rshared busybox",
		"--mount type=bind,src=/a,dst=/b,bind-nonrecursive=true busybox", "--mount type=bind,src=/a,dst=/b,bind-recursive=disabled busybox", "--mount type=bind,src=/a,dst=/b,ro,bind-recursive=writable busybox",
		"--mount type=bind,src=/a,dst=/b,bind-recursive=writable busybox", "--mount type=bind,src=/a,dst=/b,ro,bind-recursive=readonly busybox", "--mount type=bind,src=/a,dst=/b,ro,bind-recursive=readonly,bind-propagation=rprivate busybox",
		"--mount src=vol,dst=/b,volume-nocopy,volume-label=a=b,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs,volume-subpath=x busybox",
		"--mount type=tmpfs,dst=/b,tmpfs-size=1m,tmpfs-mode=1770 busybox", "--mount type=image,src=img,dst=/b,image-subpath=x busybox", "--mount dst=/b busybox", "--mount type=bind busybox", "--mount type=tmpfs,dst=/x,volume-nocopy=true busybox",
		"--mount foo busybox", "--mount foo=bar,dst=/b busybox", "--mount type=tmpfs,dst=/b,tmpfs-size=x busybox", "--mount type=bind,src=/a,dst=/b,readonly=maybe busybox", "--mount type=bind,src=/a,dst=/b,consistency=cached busybox",
		"--tmpfs /a --tmpfs /b:size=1m,mode=700 busybox", "--volumes-from c1 --volumes-from c2:ro busybox", "--volume-driver local -v x:/y busybox", "--storage-opt size=1G busybox", "--storage-opt size busybox",
		// devices
		"--device /dev/null busybox", "--device /dev/null:/dev/x:r busybox", "--device /dev/null:rw busybox", "--device /dev/null:/dev/x:q busybox", "--device a busybox", "--device /dev//null:/dev/../dev/x busybox", "--device a:b:c:d busybox", "--device vendor.com/class=name busybox",
		"--device-cgroup-rule=c\u00a01:1\u00a0r busybox", "--gpus all busybox", "--gpus 2 busybox", "--gpus device=1 busybox", `--gpus "device=1,2",capabilities=utility,driver=nvidia busybox`, "--gpus x busybox", "--gpus count=1,count=2 busybox", "--gpus foo=1 busybox",
		"--device-read-bps /dev/sda:1mb --device-write-iops /dev/sda:100 --blkio-weight 300 --blkio-weight-device /dev/sda:200 busybox", "--device-read-bps sda:1 busybox", "--device-read-iops /dev/sda:x busybox", "--blkio-weight-device /dev/sda:5 busybox",
		// limits
		"-m 64m --memory-reservation 32m --memory-swap -1 --memory-swappiness 10 --shm-size 1g busybox", "-m 64x busybox", "--memory-swappiness 101 busybox", "--memory-swap -2 busybox",
		"--cpus 0.5 -c 512 --cpu-period 1000 --cpu-quota 2000 --cpuset-cpus 0-1 --cpuset-mems 0 --cpu-rt-period 1 --cpu-rt-runtime 2 busybox", "--cpus x busybox", "--cpus 0.00000000001 busybox", "--cpus 1/3 busybox",
		"--pids-limit 50 --oom-score-adj 100 --oom-kill-disable busybox", "--pids-limit -1 busybox", "--ulimit nofile=100:200 --ulimit core=0 busybox", "--ulimit nofile=200:100 busybox", "--ulimit x=1 busybox", "--ulimit nofile busybox",
		"--io-maxbandwidth 1m --io-maxiops 5 --cpu-count 2 --cpu-percent 3 busybox",
		// network
		"--network host busybox", "--network none busybox", "--network n1 busybox", "--network name=n1,alias=a,alias=b,ip=1.2.3.4,mac-address=02:42:ac:11:00:02,driver-opt=k=v,gw-priority=3 busybox", "--network n1 --network n2 busybox", "--network n1 --network host busybox", "--network n1 --network n1 busybox",
		"--network name=n1,bad=1 busybox", "--network alias=a busybox", "--network name=n1,gw-priority=x busybox", "--network container:abc busybox", "--net n1 --net-alias x busybox", "--network-alias x busybox",
		"--network n1 --ip 172.20.0.5 --ip6 fd00::5 --link-local-ip 169.254.1.1 --mac-address 02:42:ac:11:00:02 busybox", "--mac-address zz busybox", "--mac-address 02:42:ac:11:00:02 busybox", "--network name=n1,ip=1.2.3.4 --ip 1.2.3.5 busybox",
		"--link c1 --link c2:alias busybox", "--network n1 --link c1:a busybox", "--link a:b:c busybox", "--dns 1.1.1.1 --dns 2606:4700::1111 --dns-search example.com --dns-search . --dns-option ndots:2 --dns-opt timeout:1 busybox", "--dns x busybox", "--dns-search -x busybox", "--dns 127.0.0.1 busybox",
		"--add-host foo:1.2.3.4 --add-host bar=::1 --add-host baz:[::1] --add-host gw:host-gateway busybox", "--add-host foo busybox", "--add-host foo:bar busybox",
		"-h host --domainname dom busybox",
		// life
		"--restart always busybox", "--restart on-failure:3 busybox", "--restart :3 busybox", "--restart on-failure:x busybox", "--restart always --rm busybox", "--restart= busybox", "--rm --init busybox", "--init=false busybox",
		"--stop-signal SIGINT --stop-timeout 2 busybox", "--stop-timeout 0 busybox",
		"--health-cmd true --health-interval 1s --health-retries 2 --health-timeout 3s --health-start-period 4s --health-start-interval 5s busybox", "--no-healthcheck busybox", "--no-healthcheck --health-cmd x busybox", "--health-interval -1s busybox", "--health-interval x busybox",
		// security
		"--cap-add NET_ADMIN --cap-drop all --privileged --read-only --userns host --security-opt no-new-privileges busybox", "--security-opt seccomp=" + seccomp + " busybox", "--security-opt seccomp:unconfined busybox", "--security-opt seccomp=/none busybox", "--security-opt seccomp=" + badSeccomp + " busybox",
		"--security-opt apparmor=x --security-opt label=disable busybox", "--security-opt foo busybox", "--security-opt systempaths=unconfined busybox", "--security-opt systempaths=unconfined --security-opt no-new-privileges:true busybox",
		"--userns x busybox", "--pid x busybox", "--pid host --ipc host --uts host --cgroupns private busybox", "--pid container:x busybox", "--uts x busybox", "--cgroupns x busybox",
		"--sysctl net.ipv4.ip_forward=1 --sysctl kernel.shmmax=1 busybox", "--sysctl kernel.foo=1 busybox", "--sysctl net.x busybox", "--group-add 10 --group-add wheel -u 0:0 -w /tmp busybox",
		"--cgroup-parent /x --runtime runc --isolation default --annotation a=b --log-driver json-file --log-opt max-size=1m busybox", "--log-driver none --log-opt a=b busybox",
		"--entrypoint sh busybox -c true", "--entrypoint= busybox", "--platform linux/arm64/v8 busybox", "--platform linux/amd64 busybox", "--platform nope/x/y/z busybox", "--platform arm64 busybox",
		// the name of the image, the flags themselves
		"Bad:Ref:x", "busybox:1.36", "ghcr.io/a/b@sha256:dc8a8ea997aae50df7614e17e2f73b90dbe4020d55806c12f2d8c387b203e236", "--name a busybox", "--nosuch busybox", "-Z busybox", "--pull sometimes busybox", "-m busybox", "--detach-keys ctrl-a busybox",
		"-itd --rm --name=x busybox", "-p80:80 -ve:/f busybox", "--", "-- busybox -x", "",
	} {
		t.Run(line, func(t *testing.T) {
			args := []string{}
			for a := range strings.FieldsSeq(strings.ReplaceAll(line, "\u00a0", "\x01")) {
				args = append(args, strings.ReplaceAll(a, "\x01", " "))
			}
			d, l := f.both(t, "", 0, "", append([]string{"create"}, args...)...)
			check(t, d, l)
			if t.Failed() {
				return
			}
			for _, x := range diff(same(created(t, d)), same(created(t, l))) {
				t.Error(x)
			}
			for i, q := range l.Requests {
				if q.Path == "/containers/create" && i < len(d.Requests) {
					for _, p := range d.Requests {
						if p.Path == q.Path && p.Query.Encode() != q.Query.Encode() {
							t.Errorf("query: docker %s, lade %s", p.Query.Encode(), q.Query.Encode())
						}
					}
				}
			}
		})
	}
}
