// The browser, the steps of the tests and what each page is watched for.
import { readFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { chromium } from 'playwright-core';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'];
const STEP_MS = 180_000;
const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** A browser with a profile of its own. With ASSETS=DIR it takes the page's files from there, without building the program. */
export async function open_browser(executablePath, folder) {
  const profile = mkdtempSync(join(folder, 'profile-'));
  const context = await chromium.launchPersistentContext(profile, { executablePath, args: FLAGS, viewport: { width: 1280, height: 860 }, locale: 'en-US' });
  context.setDefaultTimeout(30_000);
  const outside = new Set(), errors = new Set(), failures = [];

  /** Watches a page of the server at `base`: it loads nothing from elsewhere and has no errors. */
  async function watched(base) {
    const page = await context.newPage();
    page.on('request', (request) => { if (!request.url().startsWith(base) && !/^(data|blob):/.test(request.url())) outside.add(request.url()); });
    page.on('pageerror', (error) => errors.add(String(error)));
    page.on('console', (message) => { if (message.type() === 'error' && /Content Security Policy|Refused/.test(message.text())) errors.add(message.text()); });
    if (process.env.ASSETS) await page.route('**/admin/assets/*', (route) => {
      const name = new URL(route.request().url()).pathname.split('/').pop();
      const types = { js: 'text/javascript', css: 'text/css', svg: 'image/svg+xml' };
      return route.fulfill({ body: readFileSync(join(process.env.ASSETS, name)), contentType: types[name.split('.').pop()] });
    });
    return page;
  }
  /** Fails once a test takes too long: not every call of Playwright has a limit of its own. */
  const late = () => new Promise((_, reject) => { setTimeout(() => reject(new Error(`not over after ${STEP_MS / 1000} s`)), STEP_MS).unref(); });
  /** Runs a test. A failure is noted, and the next test runs. */
  async function step(name, run) {
    const began = performance.now();
    try {
      await Promise.race([run(), late()]);
      console.log(`ok    ${name} (${((performance.now() - began) / 1000).toFixed(1)} s)`);
    } catch (error) {
      failures.push(`${name}: ${error.stack ?? error}`);
      console.log(`FAILS ${name}`);
      // An open dialog would be in the way of the next test.
      const clear = (page) => page.evaluate(() => document.querySelectorAll('dialog[open]').forEach((dialog) => dialog.close())).catch(() => {});
      if (process.env.SHOTS) for (const [place, page] of context.pages().entries()) await page.screenshot({ path: join(folder, `failure-${failures.length}-${place}.png`) }).catch(() => {});
      await Promise.all(context.pages().map(clear));
    }
  }
  /** Notes serious faults of accessibility. */
  async function check_axe(page, where) {
    await page.bringToFront();
    // Run beside the page's own scripts, whose policy lets no other script in.
    const result = await page.evaluate(`${axe}; axe.run(document, { resultTypes: ['violations'] })`);
    const serious = result.violations.filter((fault) => ['serious', 'critical'].includes(fault.impact));
    const told = serious.map((fault) => `${fault.id}: ${fault.nodes.slice(0, 3).map((node) => `${node.html.slice(0, 160)} ${node.any[0]?.message ?? ''}`).join(' | ')}`);
    if (told.length) failures.push(`${where}: ${told.join('\n   ')}`);
  }
  /** Closes the browser, and returns everything that went wrong. */
  async function close() {
    await context.close();
    rmSync(profile, { recursive: true, force: true });
    if (outside.size) failures.push(`asked elsewhere: ${[...outside].join(', ')}`);
    if (errors.size) failures.push(`errors in the page: ${[...errors].join('\n')}`);
    return failures;
  }
  return { context, watched, step, check_axe, close };
}

/** Opens a screen and waits until it is there. A page in the background draws nothing, so it comes to the front. */
export async function open_screen(page, name) {
  await page.bringToFront();
  await page.evaluate((hash) => { const place = document.getElementById('screen'); if (place) place.dataset.ready = ''; location.hash = hash; }, `#${name}`);
  await page.waitForSelector(`#screen[data-ready="${name}"]`);
}
/** The short message at the edge of the page. */
export const toast = (page, text) => page.locator('.toast').getByText(text).first().waitFor();
