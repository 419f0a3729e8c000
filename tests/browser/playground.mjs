// The playground of the demo, the gallery and the list of requests that come of it.
import assert from 'node:assert/strict';
import { open_screen } from './harness.mjs';

export async function of_playground({ browser, page }) {
  const { step, check_axe } = browser;

  await step('the playground chats by the session, and gives the same as code', async () => {
    await open_screen(page, 'playground');
    await page.waitForFunction(() => document.querySelector('select[aria-label="Model"]')?.options.length > 1 || document.querySelectorAll('select option').length > 6);
    await page.getByLabel('Message').fill('echo: <img src=x onerror=document.title=1>');
    await page.keyboard.press('Enter');
    await page.getByText('<img src=x onerror=document.title=1>', { exact: true }).waitFor();
    await page.getByText(/tokens in/).waitFor();
    assert.equal(await page.locator('.conversation img').count(), 0, 'text is text');
    await open_screen(page, 'live');
    await open_screen(page, 'playground');
    await page.getByText('<img src=x onerror=document.title=1>', { exact: true }).waitFor();
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
    await check_axe(page, 'playground with an answer');
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
    await open_screen(page, 'gallery');
    await page.waitForFunction(() => document.querySelector('.gallery img')?.naturalWidth > 0 && document.querySelector('.gallery video')?.duration > 4);
    assert.ok(await page.evaluate(async () => { const video = document.querySelector('.gallery video'); video.muted = true; await video.play(); await new Promise((resolve) => video.addEventListener('timeupdate', () => { if (video.currentTime > 0.2) resolve(); })); video.pause(); return true; }));
    const [download] = await Promise.all([page.waitForEvent('download'), page.getByRole('link', { name: /^Download: Video/ }).click()]);
    assert.match(download.suggestedFilename(), /\.mp4$/);
    assert.ok(!(await page.locator('#screen').innerText()).includes('lighthouse'), 'nothing of what was asked');
    await check_axe(page, 'gallery with items');
  });

  await step('the live list is filtered by key, account and outcome', async () => {
    await open_screen(page, 'live');
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
}
