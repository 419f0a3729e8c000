// Keys, settings and aliases of a real server, two owners at once, and a server that goes away.
import assert from 'node:assert/strict';
import { open_screen, toast } from './harness.mjs';

export async function of_settings({ browser, page, base, server, config }) {
  const { step, check_axe, watched } = browser;
  const dialog = (where = page) => where.getByRole('dialog');
  const setting = (name, where = page) => where.locator('.setting').filter({ has: where.locator('strong', { hasText: new RegExp(`^${name}$`) }) });
  const change = async (name, where = page) => { await where.getByRole('button', { name: `Change ${name}`, exact: true }).click(); await dialog(where).getByLabel('Value').waitFor(); };
  const save = (where = page) => dialog(where).getByRole('button', { name: 'Save' }).click();
  const models = (key) => fetch(`${base}/v1/models`, { headers: key ? { authorization: `Bearer ${key}` } : {} });

  await step('a key is made and shown once, works with its limits, and is revoked', async () => {
    await open_screen(page, 'keys');
    await page.getByText(/Without a key, every program on this machine/).waitFor();
    assert.equal((await models()).status, 200);
    await page.getByRole('button', { name: 'Make a key' }).click();
    await dialog().getByLabel('Name').fill('laptop');
    await dialog().getByText('Limits').click();
    await dialog().getByLabel('Requests a day').fill('5');
    await dialog().getByRole('button', { name: 'Make' }).click();
    await dialog().getByText(/This is shown once/).waitFor();
    const key = await dialog().locator('.code-line code').innerText();
    assert.match(key, /^sk-\S{20,}$/);
    await check_axe(page, 'a new key');
    // A click beside the dialog does not lose the key.
    await page.mouse.click(5, 5);
    assert.equal(await dialog().count(), 1);
    assert.deepEqual([(await models()).status, (await models(key)).status], [401, 200]);
    await dialog().getByRole('button', { name: 'Done' }).click();
    const row = page.getByRole('row').filter({ hasText: 'laptop' });
    await row.getByText('/ 5').waitFor();
    assert.ok(!(await page.content()).includes(key), 'the key is not in the page any more');
    await page.getByRole('button', { name: 'Make a key' }).click();
    await dialog().getByLabel('Name').fill('laptop');
    await dialog().getByRole('button', { name: 'Make' }).click();
    await dialog().getByRole('alert').waitFor();
    await page.keyboard.press('Escape');
    await row.getByRole('button', { name: 'Limits' }).click();
    await dialog().getByLabel('Models').fill('qwen3-*');
    await dialog().getByRole('button', { name: 'Save' }).click();
    await row.getByText('qwen3-*').waitFor();
    await row.getByRole('button', { name: 'Revoke' }).click();
    await dialog().getByText(/the last key/).waitFor();
    await dialog().getByRole('button', { name: 'Revoke' }).click();
    await page.getByText(/Without a key, every program on this machine/).waitFor();
  });

  await step('a setting shows the value in force, in whatever way the file spells it', async () => {
    await open_screen(page, 'settings');
    for (const [name, spelled, word] of [['CONTINUE_CHATS', 'yes', 'true'], ['KEEP_CHATS', '0', 'false'], ['REASONING_FORMAT', 'Parsed', 'parsed'], ['WEB_TOOLS', 'prompt', 'prompt']]) {
      assert.ok((await setting(name).innerText()).includes(spelled), name);
      await change(name);
      assert.equal(await dialog().getByLabel('Value').inputValue(), word, name);
      await page.keyboard.press('Escape');
    }
  });

  await step('a setting is changed, refused with its fault in words, and taken back', async () => {
    await page.getByLabel('Find a setting').fill('chats');
    await change('CONTINUE_CHATS');
    await dialog().getByLabel('Value').selectOption('false');
    await save();
    await page.getByText('Changed: CONTINUE_CHATS.').first().waitFor();
    await setting('CONTINUE_CHATS').getByText('changed here').waitFor();
    assert.equal(await page.evaluate(() => document.activeElement.dataset.focus), 'CONTINUE_CHATS', 'the focus is where it was');
    await change('CONTINUE_CHATS');
    await dialog().getByRole('button', { name: 'Take this value back' }).click();
    await setting('CONTINUE_CHATS').getByText('config file').waitFor();
    await page.getByLabel('Find a setting').fill('');
    await change('MAX_RETRIES');
    await dialog().getByLabel('Value').fill('many');
    await save();
    await dialog().getByRole('alert').getByText(/must be a whole number from 0 to 10/).waitFor();
    await check_axe(page, 'a refused setting');
    await page.keyboard.press('Escape');
    assert.ok((await setting('MAX_RETRIES').innerText()).includes('2'));
  });

  await step('what is in use after a restart only is said after a change', async () => {
    server.configure({ ...config, CONNECT_TIMEOUT: '7s' });
    await page.getByRole('button', { name: 'Reload files' }).click();
    await page.getByText('In use after a restart of the server only: CONNECT_TIMEOUT.').first().waitFor();
    await setting('CONNECT_TIMEOUT').getByText('after a restart: 7s (config file)').waitFor();
    await change('MAX_RETRIES');
    await dialog().getByLabel('Value').fill('3');
    await save();
    await page.getByText('Changed: MAX_RETRIES. In use after a restart of the server only: CONNECT_TIMEOUT.').first().waitFor();
  });

  await step('of two owners who change settings at once the second is told, and may go on', async () => {
    const other = await watched(base);
    await other.goto(`${base}/admin#settings`);
    await other.waitForSelector('#screen[data-ready="settings"]');
    await page.bringToFront();
    await change('QUEUE_MAX');
    await dialog().getByLabel('Value').fill('5');
    await other.bringToFront();
    await change('QUEUE_MAX', other);
    await dialog(other).getByLabel('Value').fill('7');
    await save(other);
    await other.getByText('Changed: QUEUE_MAX.').first().waitFor();
    await page.bringToFront();
    await save();
    await dialog().getByText(/changed elsewhere meanwhile. QUEUE_MAX is now 7/).waitFor();
    await check_axe(page, 'a conflict of two owners');
    await save();
    await page.getByText('Changed: QUEUE_MAX.').first().waitFor();
    await setting('QUEUE_MAX').locator('.value').filter({ hasText: /^5/ }).waitFor();
    await other.close();
  });

  await step('an alias is added on the models screen and answers', async () => {
    await open_screen(page, 'models');
    const aliases = page.locator('.card').filter({ has: page.getByRole('heading', { name: 'Aliases' }) });
    await aliases.getByRole('button', { name: 'Add' }).click();
    await aliases.getByLabel('Name').fill('gpt-4o*');
    await aliases.getByLabel('Stands for').fill('qwen3-max');
    await aliases.getByRole('button', { name: 'Save' }).click();
    await toast(page, 'Aliases changed');
    await aliases.getByRole('button', { name: 'Take these back' }).waitFor();
    const body = JSON.stringify({ model: 'gpt-4o-mini', messages: [{ role: 'user', content: 'echo: by another name' }] });
    const answer = await (await fetch(`${base}/v1/chat/completions`, { method: 'POST', headers: { 'content-type': 'application/json' }, body })).json();
    assert.equal(answer.choices?.[0].message.content, 'by another name', JSON.stringify(answer));
    await aliases.getByRole('button', { name: 'Add' }).click();
    await aliases.getByLabel('Name').nth(1).fill('claude*x');
    await aliases.getByLabel('Stands for').nth(1).fill('qwen3-max');
    await aliases.getByRole('button', { name: 'Save' }).click();
    await aliases.getByRole('alert').waitFor();
    await open_screen(page, 'keys');
    await open_screen(page, 'models');
    assert.equal(await aliases.getByLabel('Name').count(), 1, 'all of a change or nothing');
    const switched = page.getByRole('switch', { name: 'Listed' }).first();
    await switched.click();
    await toast(page, /is not listed/);
    const first = await page.locator('h2.mono').first().innerText();
    assert.ok(!(await (await models()).json()).data.some((one) => one.id === first), `${first} is still listed`);
    await switched.click();
    await toast(page, /is listed/);
  });

  await step('the changes are listed in words', async () => {
    await open_screen(page, 'audit');
    const said = await page.locator('#screen').innerText();
    for (const words of ['Logged in', 'Added an account', 'Renamed account-2', 'Let account-2 rest', 'Woke account-2', 'Removed account-2', 'Made a key', 'Revoked the key laptop', 'Changed settings: MAX_RETRIES', 'Changed which models are listed']) assert.ok(said.includes(words), `${words}\n${said}`);
    assert.ok(!/(POST|PUT|PATCH|DELETE) /.test(said), said);
  });

  await step('a server that goes away is said so, and after its return the owner logs in again', async () => {
    await open_screen(page, 'accounts');
    await server.stop();
    await page.getByText(/The server cannot be reached. What is shown/).waitFor();
    await check_axe(page, 'without a server');
    await page.getByRole('article').getByRole('button', { name: 'Test' }).click();
    await toast(page, 'The server cannot be reached.');
    await server.restart();
    await page.getByText('Your session has ended. Log in again.').first().waitFor();
    await page.goto('about:blank');
    await page.goto(server.link);
    await page.waitForSelector('#screen[data-ready="overview"]');
    await page.getByText('1 / 1').waitFor();
    await open_screen(page, 'settings');
    assert.ok((await setting('CONNECT_TIMEOUT').innerText()).includes('7s'));
  });
}
