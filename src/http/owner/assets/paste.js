// Adding an account: a field that takes anything, and a login with a code.
import { api, base, post, put, remove } from './api.js';
import { h, fill, tr, both, button, card, field, fault, notice, tag, clock, countdown, say, icon, status } from './dom.js';

const WAIT_MS = 250;
const MAX_BYTES = 60 * 1024 * 1024;

/** The field, with what it makes of a text at once. `replace` is the account whose credential is replaced. */
export function paste_field(done, replace) {
  const text = h('textarea', { class: 'code', rows: '6', spellcheck: 'false', autocomplete: 'off', placeholder: tr('Paste here: a Cookie header, a cURL command, a HAR entry, JSON, cookies.txt, a token or an OAuth file', '粘贴到这里：Cookie 请求头、cURL 命令、HAR 条目、JSON、cookies.txt、令牌或 OAuth 文件') });
  const result = h('div', { class: 'paste-result', 'aria-live': 'polite' });
  const label = h('input', { type: 'text', maxlength: '64', placeholder: tr('such as “work”', '例如“工作”') });
  const add = h('button', { type: 'submit', class: 'button primary', disabled: true }, replace ? tr('Replace', '替换') : tr('Add the account', '添加账号'));
  const file = h('input', { type: 'file', class: 'sr', tabindex: '-1', 'aria-hidden': 'true' });
  let timer, checking;

  async function check() {
    checking?.abort();
    checking = new AbortController();
    const value = text.value.trim();
    add.disabled = true;
    if (!value) return fill(result);
    try {
      const told = await api('admin/accounts/check', { method: 'POST', body: { text: value }, signal: checking.signal });
      add.disabled = !told.is_usable;
      return fill(result, notice(told.is_usable ? 'good' : 'warn', h('div', {},
        h('strong', {}, found(told)), told.kind ? [' ', tag(kind_name(told.kind))] : null, told.label ? h('div', {}, told.label) : null,
        told.token_expires_at ? h('div', {}, tr(`Valid until ${clock(told.token_expires_at)}`, `有效期至 ${clock(told.token_expires_at)}`)) : null,
        told.missing ? h('div', {}, both(told.missing)) : null)));
    } catch (error) {
      if (error.name === 'AbortError') return undefined;
      return fill(result, fault(error));
    }
  }
  text.addEventListener('input', () => { clearTimeout(timer); timer = setTimeout(check, WAIT_MS); });
  async function read(picked) {
    if (!picked) return;
    if (picked.size > MAX_BYTES) { fill(result, fault(new Error(tr('This file is too large. Copy the one request out of it.', '文件过大，请只复制其中的一个请求。')))); return; }
    text.value = await picked.text();
    check();
  }
  file.addEventListener('change', () => read(file.files[0]));
  text.addEventListener('dragover', (event) => event.preventDefault());
  text.addEventListener('drop', (event) => { if (event.dataTransfer?.files.length) { event.preventDefault(); read(event.dataTransfer.files[0]); } });

  const form = h('form', { class: 'stack' },
    field(tr('Credential', '凭据'), text, tr('It is looked at on this server and sent nowhere until you add it.', '内容只在本服务器上识别，添加之前不会发送到任何地方。')),
    result, replace ? null : field(tr('Name (optional)', '名称（可选）'), label),
    h('div', { class: 'row between' }, button(tr('Choose a file', '选择文件'), () => file.click(), { kind: 'quiet', icon: 'file' }), add), file);
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    add.disabled = true;
    const body = { text: text.value };
    if (label.value.trim()) body.label = label.value.trim();
    try {
      const account = replace ? await put(`admin/accounts/${encodeURIComponent(replace)}`, body) : await post('admin/accounts', body);
      text.value = '';
      fill(result);
      say(replace ? tr('The credential was replaced', '凭据已替换') : tr('The account was added', '账号已添加'));
      done?.(account);
    } catch (error) {
      add.disabled = false;
      fill(result, fault(error));
    }
  });
  return form;
}

/** A sentence about what was recognised. What is usable has a name, anything else a sentence of its own. */
function found({ recognised, kind }) {
  return kind ? tr(`This is ${both(recognised)}.`, `这是 ${both(recognised)}。`) : both(recognised);
}

export const kind_name = (kind) => ({ web: tr('web chat', '网页版'), oauth: 'OAuth', key: tr('API key', 'API 密钥') })[kind] ?? kind;

/** Where to find what is pasted. */
export function where_to_find() {
  return h('details', {}, h('summary', {}, tr('Where do I find it?', '在哪里找到？')),
    h('ol', {},
      h('li', {}, tr('Log in at chat.qwen.ai in your browser.', '在浏览器中登录 chat.qwen.ai。')),
      h('li', {}, tr('Open the developer tools (F12), tab “Network”, and reload the page.', '打开开发者工具（F12）的“网络”标签并刷新页面。')),
      h('li', {}, tr('Right-click any request to chat.qwen.ai, then “Copy as cURL”, and paste it here whole.', '右键任意一个发往 chat.qwen.ai 的请求，选择“复制为 cURL”，完整粘贴到这里。'))));
}

/** Login with a code on another device; `known` is the account that logs in again. */
export function device_login(done, known) {
  const place = h('div', { class: 'stack' });
  let timer, login;
  const stop = () => { clearTimeout(timer); login = undefined; };
  const id = h('input', { type: 'text', maxlength: '32', pattern: '[A-Za-z0-9_\\-]{1,32}', value: known ?? 'main', required: true });
  function begin_form(error) {
    stop();
    const form = h('form', { class: 'stack' }, error ? fault(error) : null,
      h('p', { class: 'muted' }, tr('Logs an OAuth account in: you open an address on any device and confirm a code.', '登录一个 OAuth 账号：在任意设备上打开网址并确认代码。')),
      known ? null : field(tr('Name of the account', '账号名称'), id, tr('Letters, digits, - and _', '字母、数字、- 和 _')), h('div', {}, h('button', { type: 'submit', class: 'button' }, tr('Get a code', '获取代码'))));
    form.addEventListener('submit', async (event) => {
      event.preventDefault();
      try { show(await post('admin/logins', { id: id.value.trim() })); } catch (failure) { begin_form(failure); }
    });
    fill(place, form);
  }
  function show(opened) {
    login = opened.login;
    fill(place,
      h('div', { class: 'row' },
        opened.qr_svg ? h('img', { class: 'qr', alt: tr('QR code of the login address', '登录网址的二维码'), src: `data:image/svg+xml;charset=utf-8,${encodeURIComponent(opened.qr_svg)}` }) : null,
        h('div', { class: 'grow stack' },
          h('div', {}, h('p', { class: 'muted' }, tr('Scan the code, or open', '扫描二维码，或打开')), h('a', { href: safe_link(opened.verification_uri_complete ?? opened.verification_uri), target: '_blank', rel: 'noreferrer noopener' }, opened.verification_uri)),
          h('div', {}, h('p', { class: 'muted' }, tr('and confirm', '并确认代码')), h('p', { class: 'user-code' }, opened.user_code)),
          status('open', tr('Waiting for you', '等待确认')), h('p', { class: 'hint' }, tr('Ends in ', '剩余 '), countdown(opened.expires_at)))),
      h('div', {}, button(tr('Cancel', '取消'), async () => { const which = login; begin_form(); try { await remove(`admin/logins/${which}`); } catch { /* it is over in any case */ } }, { kind: 'small' })));
    const poll = async () => {
      if (!login || !place.isConnected) return;
      try {
        const told = await api(`admin/logins/${login}`);
        if (!login) return;
        if (told.state === 'done') { stop(); say(known ? tr('The account is logged in', '账号已登录') : tr('The account was added', '账号已添加')); begin_form(); done?.(told.account); return; }
        if (told.state !== 'waiting') { begin_form(new Error(both(told.error) || tr('The code has expired.', '代码已过期。'))); return; }
      } catch (error) { begin_form(error); return; }
      timer = setTimeout(poll, Math.max(1, opened.interval ?? 2) * 1000);
    };
    timer = setTimeout(poll, 1000);
  }
  begin_form();
  return place;
}

/** An address that is one of the web, or none. */
export function safe_link(address) {
  try { const url = new URL(address); return ['http:', 'https:'].includes(url.protocol) ? url.href : undefined; } catch { return undefined; }
}

/** How the page shows a picture or a video of the upstream: through the server, so that the browser asks nobody else. */
export function media_link(address, more = '') {
  if (/^(data:image\/|blob:)/.test(address)) return address;
  const link = safe_link(address);
  return link && `${base}admin/media?url=${encodeURIComponent(link)}${more}`;
}

export function add_cards(done) {
  return h('div', { class: 'grid2' },
    card(tr('Paste a credential', '粘贴凭据'), h('div', { class: 'stack' }, paste_field(done), where_to_find())),
    card(tr('Log in with a code', '使用代码登录'), device_login(done)));
}
