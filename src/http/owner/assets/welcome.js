// The front page: what this is, how it is, and how to connect.
import { h, fill, tr, is_zh, set_language, toggle_theme, icon, button, card, code_line, status } from './dom.js';
import { client_tabs } from './clients.js';

const root = document.getElementById('welcome');
const told = { ...root.dataset };
const base = new URL('.', document.baseURI).href;

async function refresh() {
  try {
    const ready = await (await fetch(`${base}ready`)).json();
    const { total, usable } = ready.accounts;
    if (!total) return;
    told.line = `${usable} of ${total} ${total === 1 ? 'account' : 'accounts'} ready`;
    told.lineZh = `${total} 个账号中有 ${usable} 个可用`;
    told.light = usable === 0 ? 'bad' : usable < total ? 'part' : 'good';
    const light = document.getElementById('light');
    if (light) fill(light, lamp());
  } catch { /* the line of the page stays */ }
}
const lamp = () => status(told.light, is_zh() ? told.lineZh : told.line);

function draw() {
  const keyless = told.keyless === 'true';
  fill(root,
    h('div', { class: 'hero' },
      h('div', { class: 'hero-head' },
        h('span', { class: 'brand' }, h('img', { src: 'admin/assets/icon.svg', alt: '' }), 'qwen-bridge'),
        h('div', { class: 'row' },
          button(is_zh() ? 'English' : '中文', () => { set_language(is_zh() ? 'en' : 'zh'); draw(); }, { kind: 'small quiet' }),
          h('button', { type: 'button', class: 'button small quiet', 'aria-label': tr('Light or dark', '浅色或深色'), onclick: toggle_theme }, icon('sun')))),
      h('h1', {}, tr('Your own Qwen accounts, as one API', '把自己的 Qwen 账号变成一个 API')),
      h('p', {}, tr('Programs that speak OpenAI or Anthropic talk to this address; your accounts answer.', '支持 OpenAI 或 Anthropic 接口的程序连接到此地址，由你的账号回答。')),
      h('div', { class: 'row between' }, h('div', { id: 'light', 'aria-live': 'polite' }, lamp()),
        h('a', { class: 'button primary', href: 'admin' }, tr("Open the owner's page", '打开管理页面')))),
    card(tr('Address', '地址'),
      h('div', { class: 'stack' },
        h('div', { class: 'field' }, h('span', { class: 'label' }, tr('Base URL for OpenAI clients', 'OpenAI 客户端的地址')), code_line(`${base}v1`)),
        h('div', { class: 'field' }, h('span', { class: 'label' }, tr('Base URL for Anthropic clients', 'Anthropic 客户端的地址')), code_line(base.replace(/\/$/, ''))),
        h('p', { class: 'hint' }, keyless
          ? tr('No key is needed. Clients that insist on one take any word.', '不需要密钥；若客户端必须填写，任意填写即可。')
          : tr('A key is needed: one of API_KEY, or one made on the owner’s page.', '需要密钥：API_KEY 中的任意一个，或在管理页面创建。')))),
    card(tr('Connect a client', '连接客户端'), client_tabs(base, keyless ? { key: 'any' } : {})),
    h('p', { class: 'muted' }, `qwen-bridge ${told.version}`, ' · ', h('a', { href: 'health' }, tr('Health', '健康状态'))));
}
draw();
refresh();
setInterval(() => { if (!document.hidden) refresh(); }, 15000);
