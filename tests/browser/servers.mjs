// Starts the program: the demo, the simulator, and a real server in front of it. All end with the tests.
import { spawn } from 'node:child_process';
import { createWriteStream, mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

const START_MS = 60_000;
const running = new Set();
process.on('exit', () => { for (const child of running) child.kill('SIGKILL'); });
for (const signal of ['SIGTERM', 'SIGINT']) process.on(signal, () => process.exit(1));

/** Starts the program and waits until its output has all of `wanted`. Nothing of this machine's settings reaches it. */
function start(program, args, { env = {}, cwd, log, wanted }) {
  const child = spawn(program, args, { cwd, env: { PATH: process.env.PATH, HOME: cwd, NO_PROXY: '*', ...env }, stdio: ['ignore', 'pipe', 'pipe'] });
  running.add(child);
  const file = createWriteStream(log, { flags: 'a' });
  let output = '';
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => reject(new Error(`${args[0]} did not start:\n${output}`)), START_MS);
    const take = (bytes) => {
      file.write(bytes);
      output += bytes;
      if (wanted.every((shape) => shape.test(output))) { clearTimeout(late); resolve({ output: () => output, stop }); }
    };
    child.stdout.on('data', take);
    child.stderr.on('data', take);
    const ended = new Promise((over) => child.on('close', () => { running.delete(child); file.end(); over(); }));
    ended.then(() => { clearTimeout(late); reject(new Error(`${args[0]} ended:\n${output}`)); });
    const stop = () => { child.kill('SIGTERM'); return ended; };
  });
}
function fresh(folder) {
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** The demo, with this key of its owner. */
export async function start_demo(program, folder, key) {
  const cwd = fresh(join(folder, 'demo'));
  const demo = await start(program, ['demo', '--port', '0'], { cwd, env: { ADMIN_SECRET_KEY: key }, log: join(cwd, 'log'), wanted: [/Ctrl-C/] });
  return { ...demo, base: /base URL *(\S+)\/v1/.exec(demo.output())[1] };
}

/** A simulated upstream with three web accounts, whose cookies are in `cookies`. */
export async function start_upstream(program, folder) {
  const cwd = fresh(join(folder, 'upstream'));
  writeFileSync(join(cwd, 'scenario.json'), JSON.stringify({ pace_ms: 1, accounts: [{ name: 'ada', era: 'A' }, { name: 'bob', era: 'B' }, { name: 'eve', era: 'A' }] }));
  const upstream = await start(program, ['simulate', '--scenario', 'scenario.json'], { cwd, log: join(cwd, 'log'), wanted: [/Ctrl-C/] });
  const env = Object.fromEntries([...upstream.output().matchAll(/(QWEN_\w+)=(\S+)/g)].map(([, name, value]) => [name, value]));
  const cookies = Object.fromEntries([...upstream.output().matchAll(/^ +(ada|bob|eve): (.*)$/gm)].map(([, name, cookie]) => [name, cookie]));
  return { ...upstream, env, cookies };
}

/**
 * A server without an account and without a key, in front of the upstream and below the path /qwen. `configure` writes
 * its config.json. `link` is what it printed for its owner. `restart` begins it again at the same address.
 */
export async function start_server(program, folder, upstream, config) {
  const cwd = fresh(join(folder, 'server'));
  const configure = (values) => writeFileSync(join(cwd, 'config.json'), JSON.stringify(values));
  configure(config);
  const begin = async (port) => {
    const env = { ...upstream.env, SERVER_PORT: String(port), BASE_PATH: '/qwen', STATE_DIR: join(cwd, 'state') };
    const server = await start(program, ['serve'], { cwd, env, log: join(cwd, 'log'), wanted: [/#link=\w+/, /"listening"/] });
    return { ...server, link: /http:\S+#link=\w+/.exec(server.output())[0] };
  };
  const server = { ...(await begin(0)), configure };
  server.base = server.link.split('/admin')[0];
  server.restart = async () => { await server.stop(); Object.assign(server, await begin(new URL(server.base).port)); };
  return server;
}
