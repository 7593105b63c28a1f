'use strict';
// What dockerode does with an engine: $DOCKER_HOST, and an image with a shell,
// $IMAGE.

const assert = require('node:assert/strict');
const { PassThrough, Readable } = require('node:stream');
const { text, buffer } = require('node:stream/consumers');
const { once } = require('node:events');
const path = require('node:path');
const load = require('node:module').createRequire(path.join(process.env.NODE_MODULES, 'x'));
const Docker = load('dockerode');
const tar = load('tar-stream');
const { check, run } = require('./tap');

const { IMAGE, NET } = process.env;
const Labels = { conformance: 'node' };
const mine = JSON.stringify({ label: ['conformance=node'] });

async function sleeper(d, options = {}, command = ['sleep', '1000']) {
  const { HostConfig, ...rest } = options;
  const c = await d.createContainer({ Image: IMAGE, Cmd: command, Labels, HostConfig: { Init: true, ...HostConfig }, ...rest });
  await c.start();
  return c;
}

// during gives f a container, which is removed then.
async function during(container, f) {
  const c = await container;
  try {
    await f(c);
  } finally {
    await c.remove({ force: true, v: true });
  }
}

function fails(promise, status, words) {
  return assert.rejects(promise, (e) => {
    assert.equal(e.statusCode, status, e.message);
    assert.match(e.message, words);
    return true;
  });
}

// seen resolves when what a stream gave so far fits.
function seen(stream, words) {
  return new Promise((resolve, reject) => {
    let all = '';
    const late = setTimeout(() => reject(new Error(`no ${words} in ${JSON.stringify(all)}`)), 60000);
    stream.on('data', (b) => {
      all += b;
      if (words.test(all)) {
        clearTimeout(late);
        resolve(all);
      }
    });
    stream.on('error', reject);
  });
}

// apart reads the two streams of a connection that has both.
async function apart(d, stream) {
  const out = new PassThrough();
  const err = new PassThrough();
  d.modem.demuxStream(stream, out, err);
  stream.on('end', () => { out.end(); err.end(); });
  return Promise.all([text(out), text(err)]);
}

function pack(files) {
  const p = tar.pack();
  for (const [name, content] of Object.entries(files)) p.entry({ name }, content);
  p.finalize();
  return p;
}

async function unpack(stream) {
  const files = {};
  const x = tar.extract();
  x.on('entry', async (h, s, next) => { files[h.name] = h.type === 'file' ? await text(s) : null; next(); });
  stream.pipe(x);
  await once(x, 'finish');
  return files;
}

async function exec(c, options) {
  const e = await c.exec({ AttachStdout: true, AttachStderr: true, ...options });
  return [e, await e.start({ hijack: true, stdin: Boolean(options.AttachStdin) })];
}

check('system: ping, version, info, df', async (d) => {
  assert.equal(String(await d.ping()), 'OK');
  const v = await d.version();
  for (const key of ['Version', 'ApiVersion', 'MinAPIVersion', 'GoVersion', 'Os', 'Arch', 'KernelVersion']) assert.ok(v[key], key);
  const i = await d.info();
  for (const key of ['ID', 'Driver', 'NCPU', 'MemTotal', 'Name', 'ServerVersion', 'Runtimes', 'DefaultRuntime']) assert.ok(i[key], key);
  assert.ok((await d.df()).Images.length > 0);
});

check('errors: what is not there', async (d) => {
  await fails(d.getContainer('nosuch').inspect(), 404, /No such container: nosuch/);
  await fails(d.getImage('nosuch').inspect(), 404, /No such image: nosuch/);
  await fails(d.getNetwork('nosuch').inspect(), 404, /network nosuch not found/);
  await fails(d.getVolume('nosuch').inspect(), 404, /no such volume/);
  await fails(d.createContainer({ Image: 'nosuch' }), 404, /No such image: nosuch:latest/);
  await fails(d.createContainer({ Image: IMAGE, name: 'a/b' }), 400, /Invalid container name/);
});

check('run: output and status', async (d) => {
  const out = new PassThrough();
  const err = new PassThrough();
  const [data, c] = await d.run(IMAGE, ['sh', '-c', 'echo out; echo err >&2; exit 3'], [out, err], { Tty: false, Labels });
  assert.equal(data.StatusCode, 3);
  await c.remove();
  assert.equal(String(out.read()), 'out\n');
  assert.equal(String(err.read()), 'err\n');
});

check('run: with a terminal', async (d) => {
  const out = new PassThrough();
  const [data, c] = await d.run(IMAGE, ['sh', '-c', 'tty; echo $COLUMNS'], out, { Labels });
  assert.equal(data.StatusCode, 0);
  await c.remove();
  assert.match(String(out.read()), /\/dev\/(pts\/0|console)\r\n/);
});

check('containers: life', async (d) => {
  const c = await d.createContainer({
    Image: IMAGE, Labels, name: 'node-life', Env: ['A=b'], WorkingDir: '/tmp', User: '1:2', StopSignal: 'SIGKILL', Cmd: ['sleep', '1000'],
    HostConfig: { Memory: 64 << 20, NanoCpus: 5e8, PidsLimit: 30, RestartPolicy: { Name: 'on-failure', MaximumRetryCount: 2 } },
  });
  await during(c, async () => {
    await c.start();
    let i = await c.inspect();
    assert.equal(i.State.Status, 'running');
    assert.equal(i.Name, '/node-life');
    assert.deepEqual(i.HostConfig.RestartPolicy, { Name: 'on-failure', MaximumRetryCount: 2 });
    await fails(c.start(), 304, /./);
    await c.pause();
    assert.equal((await c.inspect()).State.Paused, true);
    await c.unpause();
    await c.rename({ name: 'node-life2' });
    await c.update({ Memory: 128 << 20, MemorySwap: 128 << 20 });
    await c.restart({ t: 1 });
    i = await c.inspect();
    assert.equal(i.Name, '/node-life2');
    assert.equal(i.HostConfig.Memory, 128 << 20);
    assert.match(JSON.stringify(await c.top({ ps_args: 'aux' })), /sleep/);
    await fails(c.remove(), 409, /stop the container before/);
    const end = c.wait();
    await c.stop({ t: 1 });
    assert.equal((await end).StatusCode, 137);
    await fails(c.stop(), 304, /./);
    await c.start();
    await c.kill({ signal: 'KILL' });
    await c.wait();
  });
  await fails(c.inspect(), 404, /No such container/);
});

check('containers: list, filters', (d) => during(sleeper(d, { name: 'node-list' }), async (c) => {
  const list = await d.listContainers({ filters: mine });
  assert.deepEqual(list.map((x) => x.Names), [['/node-list']]);
  assert.equal(list[0].Id, c.id);
  assert.equal(list[0].State, 'running');
  assert.deepEqual(await d.listContainers({ filters: { label: ['conformance=node'], status: ['exited'] } }), []);
  await fails(d.listContainers({ filters: { nosuch: ['x'] } }), 400, /invalid filter/);
}));

check('attach: standard input, output, half-close', async (d) => {
  const c = await d.createContainer({ Image: IMAGE, Labels, Cmd: ['sh', '-c', 'cat; echo end >&2'], OpenStdin: true, StdinOnce: true, AttachStdin: true });
  await during(c, async () => {
    const s = await c.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
    const both = apart(d, s);
    await c.start();
    s.write('one\n');
    s.end('two\n');
    assert.deepEqual(await both, ['one\ntwo\n', 'end\n']);
    assert.equal((await c.wait()).StatusCode, 0);
  });
});

check('attach: terminal, size', async (d) => {
  const c = await d.createContainer({ Image: IMAGE, Labels, Cmd: ['sh'], Tty: true, OpenStdin: true });
  await during(c, async () => {
    const s = await c.attach({ stream: true, stdin: true, stdout: true, stderr: true, hijack: true });
    await c.start();
    await c.resize({ h: 40, w: 100 });
    const there = seen(s, /42\r\n/);
    s.write('tty; echo $((6*7))\n');
    assert.match(await there, /\/dev\//);
    s.write('exit 5\n');
    assert.equal((await c.wait()).StatusCode, 5);
  });
});

check('exec: streams, status, environment, user', (d) => during(sleeper(d), async (c) => {
  const [e, s] = await exec(c, { Cmd: ['sh', '-c', 'echo $A; pwd; id -u; echo bad >&2; exit 6'], Env: ['A=b'], WorkingDir: '/tmp', User: '7' });
  assert.deepEqual(await apart(d, s), ['b\n/tmp\n7\n', 'bad\n']);
  const i = await e.inspect();
  assert.equal(i.ExitCode, 6);
  assert.equal(i.Running, false);
  await fails(c.exec({ Cmd: [] }), 400, /No exec command specified/);
  await fails(e.start({}), 409, /has already run/);
}));

check('exec: standard input, half-close', (d) => during(sleeper(d), async (c) => {
  const [, s] = await exec(c, { Cmd: ['wc', '-c'], AttachStdin: true });
  const both = apart(d, s);
  s.end('12345');
  assert.match((await both)[0], /^\s*5\s*$/);
}));

check('exec: terminal, size', (d) => during(sleeper(d), async (c) => {
  const [e, s] = await exec(c, { Cmd: ['sh'], AttachStdin: true, Tty: true });
  await e.resize({ h: 20, w: 90 });
  const there = seen(s, /42\r\n/);
  s.write('tty; echo $((6*7))\n');
  assert.match(await there, /\/dev\/pts/);
  s.write('exit 4\n');
  await once(s, 'end');
  assert.equal((await e.inspect()).ExitCode, 4);
}));

check('logs: tail, timestamps, streams', (d) => during(sleeper(d, {}, ['sh', '-c', 'echo 1; echo 2 >&2; echo 3']), async (c) => {
  await c.wait();
  const all = await c.logs({ stdout: true, stderr: true });
  assert.equal(all.length, 3 * (8 + 2));
  assert.match(String(await c.logs({ stdout: true, timestamps: true })), /\d{4}-\d\d-\d\dT[\d:.]+Z 1\n/);
  assert.equal((await c.logs({ stdout: true, stderr: true, tail: 1 })).length, 10);
  await fails(c.logs({}), 400, /at least one of 'stdout' or 'stderr'/);
}));

check('logs: follow', (d) => during(sleeper(d, { OpenStdin: true }, ['sh', '-c', 'echo first; read x; echo last']), async (c) => {
  const s = await c.logs({ follow: true, stdout: true, stderr: true });
  const first = seen(s, /first\n/);
  const last = seen(s, /last\n/);
  const ended = once(s, 'end');
  await first;
  const input = await c.attach({ stream: true, stdin: true, hijack: true });
  input.write('x\n');
  await last;
  await ended;
}));

check('stats: one and a stream', (d) => during(sleeper(d, { HostConfig: { Memory: 64 << 20 } }), async (c) => {
  const one = await c.stats({ stream: false });
  assert.equal(one.memory_stats.limit, 64 << 20);
  assert.ok(one.cpu_stats.system_cpu_usage > one.precpu_stats.system_cpu_usage);
  const s = await c.stats({ stream: true });
  await seen(s, /\}\s*\{/);
  s.destroy();
}));

check('copy: in, out, stat', (d) => during(sleeper(d), async (c) => {
  await c.putArchive(pack({ a: 'one', b: 'two' }), { path: '/tmp' });
  assert.deepEqual(await unpack(await c.getArchive({ path: '/tmp' })), { 'tmp/': null, 'tmp/a': 'one', 'tmp/b': 'two' });
  const head = await c.infoArchive({ path: '/tmp/a' });
  const stat = JSON.parse(Buffer.from(head.headers['x-docker-container-path-stat'], 'base64'));
  assert.equal(stat.size, 3);
  await fails(c.getArchive({ path: '/nosuch' }), 404, /Could not find the file \/nosuch/);
  assert.deepEqual((await c.changes()).filter((x) => x.Path === '/tmp/a'), [{ Path: '/tmp/a', Kind: 1 }]);
  assert.equal((await unpack(await c.export()))['tmp/b'], 'two');
}));

check('images: commit, tag, list, history, remove', (d) => during(sleeper(d), async (c) => {
  const made = await c.commit({ repo: 'conformance/node', tag: 'a', comment: 'a word', changes: 'ENV Z=1' });
  const i = d.getImage('conformance/node:a');
  assert.equal((await i.inspect()).Id, made.Id);
  await i.tag({ repo: 'conformance/node', tag: 'b' });
  assert.deepEqual((await d.listImages({ filters: { reference: ['conformance/node'] } })).map((x) => x.RepoTags.sort()), [['conformance/node:a', 'conformance/node:b']]);
  assert.equal((await i.history())[0].Comment, 'a word');
  assert.match(JSON.stringify(await i.remove()), /"Untagged":"conformance\/node:a"/);
  assert.match(JSON.stringify(await d.getImage('conformance/node:b').remove()), /"Deleted":"sha256:/);
}));

check('images: save, load, import, prune', async (d) => {
  const i = d.getImage(IMAGE);
  const data = await buffer(await i.get());
  const progress = await d.loadImage(Readable.from([data]));
  assert.match(await text(progress), /Loaded image/);
  const s = await d.importImage(pack({ f: 'x' }), { repo: 'conformance/node', tag: 'imported' });
  await new Promise((resolve, reject) => d.modem.followProgress(s, (e, out) => (e ? reject(e) : resolve(out))));
  await d.getImage('conformance/node:imported').remove();
  assert.ok('SpaceReclaimed' in await d.pruneImages({ filters: mine }));
});

check('images: pull from a registry that is not there', async (d) => {
  await assert.rejects(async () => {
    const s = await d.pull('127.0.0.1:1/nosuch:latest');
    await new Promise((resolve, reject) => d.modem.followProgress(s, (e) => (e ? reject(e) : resolve())));
  }, /connection refused/);
});

check('networks: create, connect, inspect, disconnect, remove', (d) => during(sleeper(d, { name: 'node-net' }), async (c) => {
  const n = await d.createNetwork({ Name: 'node-net', Labels, IPAM: { Config: [{ Subnet: `${NET}.0/24` }] }, CheckDuplicate: true });
  try {
    await n.connect({ Container: c.id, EndpointConfig: { Aliases: ['other'], IPAMConfig: { IPv4Address: `${NET}.77` } } });
    const i = await n.inspect();
    assert.equal(i.Containers[c.id].IPv4Address, `${NET}.77/24`);
    assert.equal((await c.inspect()).NetworkSettings.Networks['node-net'].IPAddress, `${NET}.77`);
    assert.deepEqual((await d.listNetworks({ filters: mine })).map((x) => x.Name), ['node-net']);
    await fails(n.remove(), 403, /has active endpoints/);
    await fails(d.createNetwork({ Name: 'node-net' }), 409, /already exists/);
    await n.disconnect({ Container: c.id });
  } finally {
    await n.remove();
  }
  assert.ok(await d.pruneNetworks({ filters: mine }));
}));

check('volumes: create, use, list, remove, prune', async (d) => {
  const v = await d.createVolume({ Name: 'node-volume', Labels });
  try {
    await during(sleeper(d, { HostConfig: { Binds: ['node-volume:/v'] } }), async (c) => {
      assert.deepEqual((await c.inspect()).Mounts.map((m) => [m.Type, m.Name, m.Destination]), [['volume', 'node-volume', '/v']]);
      await fails(d.getVolume('node-volume').remove(), 409, /volume is in use/);
    });
    assert.deepEqual((await d.listVolumes({ filters: mine })).Volumes.map((x) => x.Name), ['node-volume']);
  } finally {
    await d.getVolume('node-volume').remove();
  }
  assert.ok(v);
  assert.ok('SpaceReclaimed' in await d.pruneVolumes({ filters: mine }));
});

check('ports: published, listed', (d) => during(sleeper(d, {
  ExposedPorts: { '80/tcp': {} }, HostConfig: { PortBindings: { '80/tcp': [{ HostIp: '127.0.0.1', HostPort: '' }] } },
}), async (c) => {
  const [p] = (await c.inspect()).NetworkSettings.Ports['80/tcp'];
  assert.equal(p.HostIp, '127.0.0.1');
  const [listed] = (await d.listContainers({ filters: mine }))[0].Ports;
  assert.deepEqual(listed, { IP: '127.0.0.1', PrivatePort: 80, PublicPort: Number(p.HostPort), Type: 'tcp' });
}));

check('events: of a life', async (d) => {
  const s = await d.getEvents({ filters: mine });
  const all = seen(s, /"Action":"destroy"/);
  const c = await sleeper(d, {}, ['true']);
  await c.wait();
  await c.remove();
  const actions = (await all).trim().split('\n').map((l) => JSON.parse(l)).filter((e) => e.Type === 'container').map((e) => e.Action);
  assert.deepEqual(actions, ['create', 'start', 'die', 'destroy']);
  s.destroy();
});

check('containers: prune', async (d) => {
  const c = await sleeper(d, {}, ['true']);
  await c.wait();
  assert.deepEqual((await d.pruneContainers({ filters: mine })).ContainersDeleted, [c.id]);
});

check('swarm: an engine outside of one', async (d) => {
  await fails(d.listServices(), 503, /This node is not a swarm manager/);
  await fails(d.swarmInspect(), 503, /This node is not a swarm manager/);
});

run(new Docker());
