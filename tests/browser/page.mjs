// Tries the owner's page in headless Chromium: `node page.mjs PROGRAM BROWSER FOLDER`. With SHOTS=1 it leaves pictures of
// each screen in FOLDER/shots; with ASSETS=DIR it takes the page's files from there, without building the program.
import { resolve } from 'node:path';
import { open_browser } from './harness.mjs';
import { start_demo, start_server, start_upstream } from './servers.mjs';
import { of_owner } from './owner.mjs';
import { of_playground } from './playground.mjs';
import { of_screens, of_the_end } from './screens.mjs';
import { of_settings } from './settings.mjs';
import { shots } from './shots.mjs';

const [program, browser_path, folder] = process.argv.slice(2).map((argument) => resolve(argument));
const KEY = 'owner-of-the-browser-test';
const CONFIG = { CONTINUE_CHATS: 'yes', KEEP_CHATS: 0, REASONING_FORMAT: 'Parsed' };

const [demo, upstream] = await Promise.all([start_demo(program, folder, KEY), start_upstream(program, folder)]);
const server = await start_server(program, folder, upstream, CONFIG);
const browser = await open_browser(browser_path, folder);

const page = await browser.watched(demo.base);
const of_demo = { browser, page, base: demo.base, key: KEY };
await of_screens(of_demo);
await of_playground(of_demo);
if (process.env.SHOTS) await shots(of_demo, folder);
await of_the_end(of_demo);
await page.close();

const own = await browser.watched(server.base);
const of_server = { browser, page: own, base: server.base, server, config: CONFIG, cookies: upstream.cookies };
await of_owner(of_server);
await of_settings(of_server);

const failures = await browser.close();
await Promise.all([demo.stop(), server.stop(), upstream.stop()]);
for (const failure of failures) console.error(`\n${failure}`);
process.exit(failures.length ? 1 : 0);
