// A new owner of a real server below a path: the printed link, the first account, and all that can be done with accounts.
import assert from 'node:assert/strict';
import { open_screen, toast } from './harness.mjs';

export async function of_owner({ browser, page, base, server, cookies }) {
  const { context, step, check_axe } = browser;
  const credential = page.getByLabel('Credential');
  const result = page.locator('.paste-result');
  const card = (name) => page.getByRole('article', { name, exact: true });
  /** Chooses what the menu of an account offers. */
  const choose = async (account, name) => {
    await account.locator('summary').click();
    await account.getByRole('button', { name, exact: true }).click();
  };

  await step('the printed link opens the page below its path, once', async () => {
    await page.goto(server.link);
    await page.getByRole('heading', { name: 'Add your first account' }).waitFor();
    assert.equal(page.url(), `${base}/admin`, 'the secret of the link is gone from the address');
    const cookie = (await context.cookies(`${base}/admin`)).find((one) => one.name === 'qwen_bridge_session');
    assert.equal(cookie.path, '/qwen');
    await context.clearCookies();
    await page.goto('about:blank');
    await page.goto(server.link);
    await page.getByText(/This link was used before/).waitFor();
    await page.getByText(/This server has no admin key/).waitFor();
    await check_axe(page, 'a used link');
    await context.addCookies([cookie]);
    await page.goto(`${base}/admin`);
    await page.getByRole('heading', { name: 'Add your first account' }).waitFor();
    await check_axe(page, 'first run');
  });

  await step('a pasted text is recognised at once, with what is missing, and sent nowhere', async () => {
    const add = page.getByRole('button', { name: 'Add the account' });
    const asked = [];
    const note = (request) => { if (request.method() === 'POST') asked.push(new URL(request.url()).pathname); };
    page.on('request', note);
    const rows = [
      ['hello', /This is not a Cookie header/, false],
      [`Cookie: ${cookies.ada.replace(/token=[^;]*;/, '')}`, /The cookie token or refresh_token is missing|The cookie `token` or `refresh_token` is missing/, false],
      ['sk-123456789', /This is an API key/, false],
      [`curl 'https://chat.qwen.ai/api/v2/chats' -H 'cookie: ${cookies.bob}'`, /This is a cURL command with refresh_token/, true],
      [`Cookie: ${cookies.ada}`, /This is a Cookie header with token[\s\S]*Valid until/, true],
    ];
    for (const [text, said, is_usable] of rows) {
      await credential.fill(text);
      await page.waitForFunction((shape) => new RegExp(shape).test(document.querySelector('.paste-result').innerText), said.source);
      assert.equal(await add.isEnabled(), is_usable, text.slice(0, 20));
    }
    page.off('request', note);
    assert.deepEqual([...new Set(asked)], ['/qwen/admin/accounts/check']);
    await credential.fill('');
    await page.waitForFunction(() => document.querySelector('.paste-result').innerText === '');
    assert.equal(await add.isEnabled(), false);
    await page.getByText('Where do I find it?').click();
    await page.getByText(/Copy as cURL/).first().waitFor();
    await check_axe(page, 'first run with help');
  });

  await step('a Cookie header that is pasted becomes an account that answers, without a restart', async () => {
    await credential.fill(`Cookie: ${cookies.ada}`);
    await page.getByLabel('Name (optional)').fill('Main');
    await page.getByRole('button', { name: 'Add the account' }).click();
    await toast(page, 'The account was added');
    await page.waitForSelector('#screen[data-ready="playground"]');
    await page.waitForFunction(() => document.querySelector('select[aria-label="Model"]').options.length > 0);
    await page.getByLabel('Message').fill('echo: the first answer');
    await page.keyboard.press('Enter');
    await page.locator('.bubble .said').getByText('the first answer', { exact: true }).waitFor();
    await page.getByText(/tokens in/).waitFor();
    await open_screen(page, 'accounts');
    await card('Main').getByText('Ready').waitFor();
    await open_screen(page, 'overview');
    await page.getByText('1 / 1').waitFor();
  });

  await step('an account that is there already is named, a second one is added', async () => {
    await open_screen(page, 'accounts');
    await page.getByRole('button', { name: 'Add an account', exact: true }).click();
    assert.equal(await credential.evaluate((field) => field === document.activeElement), true);
    await credential.fill(`Cookie: ${cookies.ada}`);
    await page.getByRole('button', { name: 'Add the account' }).click();
    await result.getByText(/This account is there already, as account-1/).waitFor();
    await credential.fill(cookies.bob);
    await page.getByRole('button', { name: 'Add the account' }).click();
    await card('account-2').waitFor();
    assert.equal(await page.getByRole('article').count(), 2);
  });

  await step('an account is tested, renamed and given a new credential of the same person only', async () => {
    await card('account-2').getByRole('button', { name: 'Test' }).click();
    await toast(page, /\(\d+ ms\)/);
    await choose(card('account-2'), 'Rename');
    const name = page.getByRole('dialog').getByLabel('Name');
    assert.equal(await name.evaluate((field) => field === document.activeElement), true, 'the field has the focus');
    await name.fill('Second <b>');
    await page.keyboard.press('Enter');
    await card('Second <b>').waitFor();
    const put = async (text) => {
      await page.getByRole('dialog').getByLabel('Credential').fill(text);
      await page.getByRole('dialog').getByRole('button', { name: 'Replace' }).click();
    };
    await card('Second <b>').getByRole('button', { name: 'Replace' }).click();
    await put(`Cookie: ${cookies.eve}`);
    await page.getByRole('dialog').getByRole('alert').waitFor();
    await check_axe(page, 'replace, refused');
    await put(`Cookie: ${cookies.bob}`);
    await toast(page, 'The credential was replaced');
    await page.getByRole('dialog').waitFor({ state: 'detached' });
    await card('Second <b>').getByText('Ready').waitFor();
  });

  await step('an account is sent to rest, is woken, and is removed after a question', async () => {
    const second = card('Second <b>');
    await second.getByRole('button', { name: 'Rest' }).click();
    await page.getByRole('dialog').getByRole('button', { name: '1 hour' }).click();
    await second.getByText('Rests, as you wished').waitFor();
    await second.getByText(/59 min|1 h 0 min/).first().waitFor();
    await second.getByRole('button', { name: 'Wake' }).click();
    await second.getByText('Ready').waitFor();
    await second.getByRole('button', { name: 'Rest' }).waitFor();
    await choose(second, 'Remove');
    await page.getByRole('dialog').getByRole('button', { name: 'Cancel' }).click();
    assert.equal(await second.count(), 1);
    await choose(second, 'Remove');
    await page.getByRole('dialog').getByRole('button', { name: 'Remove' }).click();
    await second.waitFor({ state: 'detached' });
    await card('Main').getByText('Ready').waitFor();
  });

  await step('the menu of an account works by keyboard', async () => {
    const more = card('Main').locator('summary');
    await more.focus();
    await page.keyboard.press('Enter');
    await card('Main').getByRole('button', { name: 'Rename', exact: true }).waitFor();
    await check_axe(page, 'the menu of an account');
    await page.keyboard.press('Escape');
    await card('Main').getByRole('button', { name: 'Rename', exact: true }).waitFor({ state: 'hidden' });
    assert.equal(await more.evaluate((one) => one === document.activeElement), true);
    await card('Main').getByRole('button', { name: 'Test' }).focus();
    await page.keyboard.press('Enter');
    await page.waitForFunction(() => document.activeElement?.dataset.focus === 'account-1 test' && !document.activeElement.disabled);
  });
}
