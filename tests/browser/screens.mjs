// Drives the owner's page in headless Chromium: `node page.mjs BASE BROWSER FOLDER`. With SHOTS=1 it leaves pictures of
// each screen in FOLDER/shots; with ASSETS=DIR it takes the page's files from there, without building the program.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const [base, browser_path, folder] = process.argv.slice(2);
const KEY = 'owner-of-the-browser-test';
const SCREENS = ['overview', 'accounts', 'playground', 'live', 'usage', 'keys', 'models', 'settings', 'gallery', 'audit'];
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const data = mkdtempSync(join(folder, 'profile-'));
const arguments_ = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const context = await chromium.launchPersistentContext(data, { executablePath: browser_path, args: arguments_, viewport: { width: 1280, height: 860 }, locale: 'en-US' });
context.setDefaultTimeout(20_000);
const outside = [], errors = [];

async function prepare(page) {
  page.on('request', (request) => { if (!request.url().startsWith(base) && !/^(data|blob):/.test(request.url())) outside.push(request.url()); });
  page.on('pageerror', (error) => errors.push(String(error)));
  page.on('console', (message) => { if (message.type() === 'error' && /Content Security Policy|Refused/.test(message.text())) errors.push(message.text()); });
  if (process.env.ASSETS) await page.route('**/admin/assets/*', (route) => {
    const name = new URL(route.request().url()).pathname.split('/').pop();
    const types = { js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' };
    route.fulfill({ body: readFileSync(join(process.env.ASSETS, name)), contentType: types[name.split('.').pop()] });
  });
  return page;
}
const page = await prepare(await context.newPage());
const screen = async (name) => {
  await page.evaluate((hash) => { document.getElementById('screen').dataset.ready = ''; location.hash = hash; }, `#${name}`);
  await page.waitForSelector(`#screen[data-ready="${name}"]`);
};
async function check_axe(where) {
  // Run beside the page's own scripts, whose policy lets no other script in.
  const result = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ['violations'] })`);
  const serious = result.violations.filter((fault) => ['serious', 'critical'].includes(fault.impact));
  const told = serious.map((fault) => `${fault.id}: ${fault.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.any[0]?.message ?? ''}`).join(' | ')}`);
  if (told.length) failures.push(`${where}: ${told.join('\n   ')}`);
}
const failures = [];
async function step(name, run) {
  try { await run(); console.log(`ok    ${name}`); } catch (error) { failures.push(`${name}: ${error.stack ?? error}`); console.log(`FAILS ${name}`); }
}

await step('the front page says what this is and fills the address in', async () => {
  await page.goto(`${base}/`);
  await page.getByRole('heading', { level: 1 }).waitFor();
  await page.getByText(/accounts? ready/).waitFor();
  assert.ok(await page.getByText(`${base}/v1`, { exact: true }).count());
  await page.getByRole('tab', { name: 'Claude Code' }).click();
  assert.match(await page.getByRole('tabpanel').innerText(), new RegExp(`ANTHROPIC_BASE_URL=${base}\\n`));
  await check_axe('front page');
});

await step('a wrong key is refused in words, the right one lets in', async () => {
  await page.goto(`${base}/admin`);
  await page.getByLabel('Admin key').fill('wrong');
  await page.getByRole('button', { name: 'Log in' }).click();
  await page.getByText('This is not the admin key.').waitFor();
  await check_axe('login');
  await page.getByLabel('Admin key').fill(KEY);
  await page.keyboard.press('Enter');
  await page.waitForSelector('#screen[data-ready="overview"]');
});

await step('every screen opens without a serious fault of accessibility, in both languages and colours', async () => {
  for (const name of SCREENS) {
    await screen(name);
    await check_axe(name);
  }
  await page.emulateMedia({ colorScheme: 'dark' });
  for (const name of ['overview', 'accounts', 'playground', 'settings']) { await screen(name); await check_axe(`${name}, dark`); }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.getByRole('button', { name: '中文' }).click();
  await page.waitForSelector('#screen[data-ready="settings"]');
  assert.equal(await page.getAttribute('html', 'lang'), 'zh-CN');
  assert.ok(await page.getByRole('heading', { name: '设置' }).count());
  await page.getByRole('button', { name: 'English' }).click();
});

await step('the playground chats by the session, and gives the same as code', async () => {
  await screen('playground');
  await page.waitForFunction(() => document.querySelector('select[aria-label="Model"]')?.options.length > 1 || document.querySelectorAll('select option').length > 6);
  await page.getByLabel('Message').fill('echo: <img src=x onerror=document.title=1>');
  await page.keyboard.press('Enter');
  await page.getByText('<img src=x onerror=document.title=1>', { exact: true }).waitFor();
  await page.getByText(/tokens in/).waitFor();
  assert.equal(await page.locator('.conversation img').count(), 0, 'text is text');
  await page.getByRole('button', { name: 'As code' }).click();
  assert.match(await page.getByRole('dialog').innerText(), /curl -N[\s\S]*from openai import OpenAI[\s\S]*await fetch/);
  await page.keyboard.press('Escape');
});

await step('thoughts fold, sources and tool calls are shown, and a file is dropped in', async () => {
  await page.getByRole('button', { name: 'Begin anew' }).click();
  for (const name of ['Think first', 'Search the web']) await page.getByLabel(name).check();
  await page.getByLabel('Message').fill('How does a lighthouse work?');
  await page.keyboard.press('Enter');
  const thoughts = page.locator('details.thoughts').first();
  await thoughts.waitFor();
  await page.locator('.sources a').first().waitFor();
  assert.equal(await thoughts.evaluate((box) => box.open), false, 'folded once the answer is there');
  await thoughts.locator('summary').click();
  assert.ok((await thoughts.locator('div').innerText()).length > 10);
  for (const name of ['Think first', 'Search the web']) await page.getByLabel(name).uncheck();
  await page.getByLabel('Offer a sample tool').check();
  await page.getByLabel('Message').fill('call: roll_dice {"count": 2, "sides": 6}');
  await page.keyboard.press('Enter');
  await page.locator('.tool-card').getByText('roll_dice').waitFor();
  await page.waitForFunction(() => document.querySelector('.conversation')?.getAttribute('aria-busy') === 'false');
  await page.getByLabel('Offer a sample tool').uncheck();
  const transfer = await page.evaluateHandle(() => { const data = new DataTransfer(); data.items.add(new File(['# Notes'], 'notes.md', { type: 'text/markdown' })); return data; });
  await page.dispatchEvent('form.composer', 'drop', { dataTransfer: transfer });
  await page.getByText('notes.md').waitFor();
  await page.getByLabel('Message').fill('Sum it up.');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelectorAll('.bubble').length >= 6 && document.querySelector('.conversation')?.getAttribute('aria-busy') === 'false');
  assert.equal(await page.locator('.bubble [role="alert"]').count(), 0, await page.locator('.conversation').innerText());
  await check_axe('playground with an answer');
});

await step('pictures and videos are shown while they are made, and kept in the gallery', async () => {
  await page.getByLabel('What to make').selectOption('image');
  await page.getByLabel('Message').fill('A lighthouse');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => document.querySelector('img.made')?.naturalWidth > 0);
  await page.getByLabel('What to make').selectOption('video');
  await page.getByLabel('Message').fill('A boat at sea');
  await page.keyboard.press('Enter');
  await page.getByRole('progressbar').waitFor();
  await page.waitForFunction(() => document.querySelector('video.made')?.duration > 4, null, { timeout: 40_000 });
  await page.getByLabel('What to make').selectOption('chat');
  await screen('gallery');
  await page.waitForFunction(() => document.querySelector('.gallery img')?.naturalWidth > 0 && document.querySelector('.gallery video')?.duration > 4);
  assert.ok(await page.evaluate(async () => { const video = document.querySelector('.gallery video'); video.muted = true; await video.play(); await new Promise((resolve) => video.addEventListener('timeupdate', () => { if (video.currentTime > 0.2) resolve(); })); video.pause(); return true; }));
  const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: /^Download: Video/ }).click()]);
  assert.match(download.suggestedFilename(), /\.mp4$/);
  assert.ok(!(await page.locator('#screen').innerText()).includes('lighthouse'), 'nothing of what was asked');
  await check_axe('gallery with items');
});

await step('the live list is filtered by key, account and outcome', async () => {
  await screen('live');
  const rows = page.locator('#screen tbody tr');
  const all = await rows.count();
  assert.ok(all >= 4, `${all} rows`);
  await page.getByLabel('Key').fill('page');
  assert.equal(await rows.count(), all);
  await page.getByLabel('Key').fill('nobody');
  await page.getByText('Nothing matches').waitFor();
  await page.getByLabel('Key').fill('');
  // A video job names no account.
  const account = await page.locator('#screen tbody td:nth-child(3) .cell-sub').first().innerText();
  await page.getByLabel('Account').fill(account);
  for (const row of await rows.all()) assert.ok((await row.innerText()).includes(account));
  await page.getByLabel('Account').fill('');
  await page.getByLabel('Outcome').selectOption('failed');
  await page.getByText('Nothing matches').waitFor();
  await page.getByLabel('Outcome').selectOption('ok');
  assert.equal(await rows.count(), all);
  await rows.first().getByRole('button').click();
  await page.getByRole('dialog').waitFor();
  await page.keyboard.press('Escape');
});

await step('a login with a code adds an account without a restart; one that is denied or expires says so', async () => {
  await screen('accounts');
  await page.getByRole('button', { name: 'Add an account' }).click();
  const begin = async (name) => {
    await page.getByLabel('Name of the account').fill(name);
    await page.getByRole('button', { name: 'Get a code' }).click();
    await page.waitForFunction(() => document.querySelector('img.qr')?.naturalWidth > 0);
    return { link: await page.locator('a[href*="/authorize"]').getAttribute('href'), code: await page.locator('.user-code').innerText() };
  };
  const decide = async ({ link, code }, button) => {
    const site = await context.newPage();
    await site.goto(link);
    assert.ok((await site.locator('body').innerText()).includes(code));
    await site.getByRole('button', { name: button }).click();
    await site.close();
  };
  await decide(await begin('second'), 'Deny');
  await page.getByRole('alert').getByText(/denied|declined|refused/i).waitFor();
  await decide(await begin('second'), 'Let the code expire');
  await page.getByRole('alert').getByText(/has expired/).waitFor();
  const begun = await begin('second');
  await check_axe('a login with a code');
  await decide(begun, 'Agree as dora');
  await page.getByRole('article', { name: 'oauth:second' }).waitFor();
});

await step('what servers say stays text on every screen', async () => {
  const evil = '<img src=x onerror="window.hit=1">"><script>window.hit=1</script>';
  const said = { en: evil, zh: evil };
  const other = await prepare(await context.newPage());
  const answers = {
    'admin/accounts': { summary: {}, accounts: [{ id: evil, label: evil, kind: evil, origin: 'page', status: 'down', reason: evil, advice: said, in_flight: 0, cooling: { chat: { reason: evil, until: Date.now() / 1000 + 60 } }, last_fault: { class: evil, at: 1 }, today: {}, hours: [1, 2] }] },
    'admin/requests?limit=100': { open: [], recent: [{ id: evil, at_ms: 1, route: evil, key: evil, model: evil, account: evil, outcome: evil, advice: said }] },
    'admin/keys': { keys: [{ name: evil, origin: evil, shown: evil, limits: { models: [evil] }, used_today: {} }] },
    'admin/models': { models: [{ id: evil, kind: evil, abilities: [evil], context: 1, listed: true, variants: [{ id: evil, listed: true }] }], aliases: { [evil]: evil } },
    'admin/settings': { settings: [{ name: evil, value: evil, default: evil, origin: evil, about: evil, section: evil }] },
    'admin/gallery': { items: [{ kind: 'image', url: 'javascript:window.hit=1', prompt: evil, model: evil, at: 1 }] },
    'admin/audit': { changes: [{ at: 1, who: evil, what: evil }] },
  };
  for (const [path, body] of Object.entries(answers)) await other.route(`${base}/${path}`, (route) => route.fulfill({ json: body }));
  await other.route(`${base}/admin/events`, (route) => route.fulfill({ status: 404, json: {} }));
  await other.goto(`${base}/admin`);
  for (const name of ['overview', 'accounts', 'live', 'keys', 'models', 'settings', 'gallery', 'audit']) {
    await other.evaluate((hash) => { const place = document.getElementById('screen'); if (place) place.dataset.ready = ''; location.hash = hash; }, `#${name}`);
    await other.waitForSelector(`#screen[data-ready="${name}"]`);
    assert.ok((await other.locator('#screen').innerText()).includes('<img src=x'), `${name} shows the text`);
    assert.equal(await other.locator('#screen img[src="x"], #screen script, #screen a[href^="javascript"]').count(), 0, name);
  }
  assert.equal(await other.evaluate(() => window.hit), undefined);
  await other.close();
});

await step('the screens can be reached by keyboard, and on a phone nothing is cut off', async () => {
  await page.goto(`${base}/admin`);
  await page.waitForSelector('#screen[data-ready="overview"]');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
  for (let presses = 0; presses < 4; presses += 1) await page.keyboard.press('Tab');
  await page.keyboard.press('Enter');
  await page.waitForFunction(() => location.hash.length > 1);
  await page.setViewportSize({ width: 375, height: 740 });
  for (const name of SCREENS) {
    await screen(name);
    const width = await page.evaluate(() => document.scrollingElement.scrollWidth);
    assert.ok(width <= 375, `${name} is ${width} pixels wide`);
    await check_axe(`${name}, phone`);
  }
  await page.getByRole('button', { name: 'Menu' }).click();
  await page.getByRole('link', { name: 'Models' }).click();
  await page.waitForSelector('#screen[data-ready="models"]');
  await page.setViewportSize({ width: 1280, height: 860 });
});

if (process.env.SHOTS) await shots();

await step('the first view is small and quick', async () => {
  const fresh = await prepare(await context.newPage());
  const began = performance.now();
  await fresh.goto(`${base}/admin`);
  await fresh.waitForSelector('#screen[data-ready="overview"]');
  const took = performance.now() - began;
  const bytes = await fresh.evaluate(() => [...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')].filter((one) => !one.name.includes('/admin/events')).reduce((all, one) => all + one.decodedBodySize, 0));
  console.log(`      ${Math.round(took)} ms, ${Math.round(bytes / 1024)} KB`);
  assert.ok(bytes < 150 * 1024, `${bytes} bytes`);
  await fresh.close();
});

await step('logging out ends the session', async () => {
  await page.goto(`${base}/admin`);
  await page.waitForSelector('#screen[data-ready="overview"]');
  await page.getByRole('button', { name: 'Log out' }).click();
  await page.getByLabel('Admin key').waitFor();
  assert.equal((await page.request.get(`${base}/admin/audit`)).status(), 401);
});

async function shots() {
  const to = join(folder, 'shots');
  mkdirSync(to, { recursive: true });
  const shoot = async (name) => { await page.waitForTimeout(400); await page.screenshot({ path: join(to, `${name}.png`) }); };
  await page.goto(`${base}/`); await page.waitForTimeout(300); await shoot('welcome');
  await page.goto(`${base}/admin`); await page.waitForSelector('#screen[data-ready="overview"]');
  for (const name of SCREENS) { await screen(name); await shoot(`${name}-light`); }
  await page.emulateMedia({ colorScheme: 'dark' });
  for (const name of SCREENS) { await screen(name); await shoot(`${name}-dark`); }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 390, height: 844 });
  for (const name of SCREENS) { await screen(name); await shoot(`${name}-phone`); }
  await page.setViewportSize({ width: 1280, height: 860 });
  await page.evaluate(() => localStorage.setItem('language', 'zh'));
  await page.reload(); await page.waitForSelector('#screen[data-ready]');
  for (const name of SCREENS) { await screen(name); await shoot(`${name}-zh`); }
  await page.evaluate(() => localStorage.removeItem('language'));
}

await context.close();
rmSync(data, { recursive: true, force: true });
if (outside.length) failures.push(`asked elsewhere: ${[...new Set(outside)].join(', ')}`);
if (errors.length) failures.push(`errors in the page: ${[...new Set(errors)].join('\n')}`);
for (const failure of failures) console.error(`\n${failure}`);
process.exit(failures.length ? 1 : 0);
