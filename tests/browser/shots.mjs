// Pictures of each screen: light, dark, on a phone, in Chinese.
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { open_screen } from './harness.mjs';
import { SCREENS } from './screens.mjs';

export async function shots({ page, base }, folder) {
  const to = join(folder, 'shots');
  mkdirSync(to, { recursive: true });
  const shoot = async (name) => { await page.waitForTimeout(400); await page.screenshot({ path: join(to, `${name}.png`) }); };
  await page.goto(`${base}/`); await page.waitForTimeout(300); await shoot('welcome');
  await page.goto(`${base}/admin`); await page.waitForSelector('#screen[data-ready="overview"]');
  for (const name of SCREENS) { await open_screen(page, name); await shoot(`${name}-light`); }
  await page.emulateMedia({ colorScheme: 'dark' });
  for (const name of SCREENS) { await open_screen(page, name); await shoot(`${name}-dark`); }
  await page.emulateMedia({ colorScheme: 'light' });
  await page.setViewportSize({ width: 390, height: 844 });
  for (const name of SCREENS) { await open_screen(page, name); await shoot(`${name}-phone`); }
  await page.setViewportSize({ width: 1280, height: 860 });
  await page.evaluate(() => localStorage.setItem('language', 'zh'));
  await page.reload(); await page.waitForSelector('#screen[data-ready]');
  for (const name of SCREENS) { await open_screen(page, name); await shoot(`${name}-zh`); }
  await page.evaluate(() => localStorage.removeItem('language'));
}
