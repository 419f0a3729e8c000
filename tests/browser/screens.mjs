// The screens of the demo: the front page, login, accessibility, the phone, hostile texts, size and speed.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { open_screen } from './harness.mjs';

export const SCREENS = ['overview', 'accounts', 'playground', 'live', 'usage', 'keys', 'models', 'settings', 'gallery', 'audit'];

/** Texts and labels of a page with three English words or more, but for code and values. Names have at most two. */
function english() {
  const is_english = (text) => /[A-Za-z]{2,} [A-Za-z]+ [A-Za-z]{2,}/.test(text ?? '');
  const found = [];
  for (const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT); walk.nextNode();) {
    const { data, parentElement } = walk.currentNode;
    if (is_english(data) && !parentElement.closest('code, pre, noscript, .mono, .value')) found.push(data);
  }
  for (const element of document.querySelectorAll('[aria-label], [title], [placeholder], [alt]'))
    for (const name of ['aria-label', 'title', 'placeholder', 'alt']) if (is_english(element.getAttribute(name))) found.push(element.getAttribute(name));
  return found;
}

export async function of_screens({ browser, page, base, key }) {
  const { context, step, check_axe } = browser;

  await step('the front page says what this is and fills the address in', async () => {
    await page.goto(`${base}/`);
    await page.getByRole('heading', { level: 1 }).waitFor();
    await page.getByText(/accounts? ready/).waitFor();
    assert.ok(await page.getByText(`${base}/v1`, { exact: true }).count());
    await page.getByRole('tab', { name: 'Claude Code' }).click();
    assert.match(await page.getByRole('tabpanel').innerText(), new RegExp(`ANTHROPIC_BASE_URL=${base}\\n`));
    await check_axe(page, 'front page');
  });

  await step('a wrong key is refused in words, the right one lets in', async () => {
    await page.goto(`${base}/admin`);
    await page.getByLabel('Admin key').fill('wrong');
    await page.getByRole('button', { name: 'Log in' }).click();
    await page.getByText('This is not the admin key.').waitFor();
    await check_axe(page, 'login');
    await page.getByLabel('Admin key').fill(key);
    await page.keyboard.press('Enter');
    await page.waitForSelector('#screen[data-ready="overview"]');
  });

  await step('every screen opens without a serious fault of accessibility, in both languages and colours', async () => {
    for (const name of SCREENS) {
      await open_screen(page, name);
      await check_axe(page, name);
    }
    await page.emulateMedia({ colorScheme: 'dark' });
    for (const name of ['overview', 'accounts', 'playground', 'settings']) { await open_screen(page, name); await check_axe(page, `${name}, dark`); }
    await page.emulateMedia({ colorScheme: 'light' });
    await page.getByRole('button', { name: '中文' }).click();
    await page.waitForSelector('#screen[data-ready="settings"]');
    assert.equal(await page.getAttribute('html', 'lang'), 'zh-CN');
    assert.ok(await page.getByRole('heading', { name: '设置' }).count());
    for (const name of SCREENS) {
      await open_screen(page, name);
      assert.deepEqual(await page.evaluate(english), [], `${name} in Chinese`);
    }
    await page.getByRole('button', { name: 'English' }).click();
  });

  await step('a login with a code adds an account without a restart; one that is denied or expires says so', async () => {
    await open_screen(page, 'accounts');
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
      // Chromium may never close a page that is about to be left.
      await site.getByRole('button').first().waitFor({ state: 'detached' });
      await site.waitForLoadState();
      await site.close();
      await page.bringToFront();
    };
    await decide(await begin('second'), 'Deny');
    await page.getByRole('alert').getByText(/denied|declined|refused/i).waitFor();
    await decide(await begin('second'), 'Let the code expire');
    await page.getByRole('alert').getByText(/has expired/).waitFor();
    const begun = await begin('second');
    await check_axe(page, 'a login with a code');
    await decide(begun, 'Agree as dora');
    await page.getByRole('article', { name: 'oauth:second' }).waitFor();
  });

  await step('usage is drawn by day and by model, and is the same in the CSV', async () => {
    await open_screen(page, 'usage');
    const drawn = () => page.locator('svg.chart').first().locator('rect.bar').evaluateAll((bars) => bars.filter((bar) => bar.getBoundingClientRect().height > 0).length);
    assert.ok((await drawn()) >= 10, `${await drawn()} days are drawn`);
    assert.equal(await page.locator('svg.chart').count(), 2);
    await page.getByRole('button', { name: 'Model', exact: true }).click();
    await page.getByRole('rowheader', { name: 'qwen3-coder-plus' }).waitFor();
    assert.ok((await drawn()) >= 3, `${await drawn()} models are drawn`);
    const [file] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: 'CSV' }).click()]);
    assert.match(file.suggestedFilename(), /\.csv$/);
    const [header, ...lines] = readFileSync(await file.path(), 'utf8').trim().split('\n');
    assert.match(header, /^model,requests,prompt_tokens,completion_tokens,/);
    const shown = await page.locator('#screen tbody tr').evaluateAll((rows) => rows.map((row) => `${row.children[0].innerText},${row.children[1].innerText.replaceAll(',', '')}`));
    assert.deepEqual(lines.map((line) => line.split(',').slice(0, 2).join(',')), shown);
    // Days without a request.
    await page.getByLabel('From').fill('2020-01-01');
    await page.getByLabel('To').fill('2020-01-02');
    await page.getByText('No request in this time').waitFor();
    await page.getByLabel('From').fill('2020-01-05');
    await page.getByRole('alert').waitFor();
  });

  await step('what servers say stays text on every screen', async () => {
    const evil = '<img src=x onerror="window.hit=1">"><script>window.hit=1</script>';
    const said = { en: evil, zh: evil };
    const other = await browser.watched(base);
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
      await open_screen(other, name);
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
      await open_screen(page, name);
      const width = await page.evaluate(() => document.scrollingElement.scrollWidth);
      assert.ok(width <= 375, `${name} is ${width} pixels wide`);
      await check_axe(page, `${name}, phone`);
    }
    const menu = page.getByRole('button', { name: 'Menu' });
    await menu.click();
    await page.getByRole('link', { name: 'Models' }).focus();
    await page.keyboard.press('Escape');
    await page.getByRole('link', { name: 'Models' }).waitFor({ state: 'hidden' });
    assert.equal(await menu.evaluate((one) => one === document.activeElement), true);
    await menu.click();
    await page.getByRole('link', { name: 'Models' }).click();
    await page.waitForSelector('#screen[data-ready="models"]');
    await page.setViewportSize({ width: 1280, height: 860 });
  });
}

/** How often the page is loaded for its speed. A busy machine slows some of the loads. */
const LOADS = 5;

/** Runs behind the others: the session is over afterwards. */
export async function of_the_end({ browser, page, base }) {
  const { step } = browser;

  await step('the first view is small, and usable within a second', async () => {
    const times = [];
    let bytes = 0;
    for (let load = 0; load < LOADS && (!times.length || Math.min(...times) >= 1000); load += 1) {
      const fresh = await browser.watched(base);
      const cdp = await browser.context.newCDPSession(fresh);
      await cdp.send('Network.setCacheDisabled', { cacheDisabled: true });
      await fresh.goto(`${base}/admin`);
      await fresh.waitForSelector('#screen[data-ready="overview"]');
      bytes = await fresh.evaluate(() => [...performance.getEntriesByType('resource'), ...performance.getEntriesByType('navigation')].filter((one) => !one.name.includes('/admin/events')).reduce((all, one) => all + one.decodedBodySize, 0));
      times.push(await fresh.evaluate(() => performance.getEntriesByName('usable')[0].startTime));
      await fresh.close();
    }
    console.log(`      usable after ${times.map((time) => `${Math.round(time)} ms`).join(', ')}; ${Math.round(bytes / 1024)} KB`);
    assert.ok(bytes > 10 * 1024 && bytes < 150 * 1024, `${bytes} bytes`);
    assert.ok(Math.min(...times) < 1000, `usable after ${times} ms`);
  });

  await step('logging out ends the session', async () => {
    await page.goto(`${base}/admin`);
    await page.waitForSelector('#screen[data-ready="overview"]');
    await page.getByRole('button', { name: 'Log out' }).click();
    await page.getByLabel('Admin key').waitFor();
    assert.equal((await page.request.get(`${base}/admin/audit`)).status(), 401);
  });
}
