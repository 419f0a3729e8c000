// The owner's page: login, the frame around the screens, and which screen is shown.
import { api, post, remove, set_csrf, stop_events, Fault } from './api.js';
import { h, fill, tr, icon, button, field, fault, loading, is_zh, set_language, toggle_theme } from './dom.js';

const SCREENS = [
  ['overview', () => tr('Overview', '概览'), () => import('./overview.js')],
  ['accounts', () => tr('Accounts', '账号'), () => import('./accounts.js')],
  ['playground', () => tr('Playground', '试用'), () => import('./playground.js')],
  ['live', () => tr('Live', '实时请求'), () => import('./live.js')],
  ['usage', () => tr('Usage', '用量'), () => import('./usage.js')],
  ['keys', () => tr('Keys', '密钥'), () => import('./keys.js')],
  ['models', () => tr('Models', '模型'), () => import('./models.js')],
  ['settings', () => tr('Settings', '设置'), () => import('./settings.js')],
  ['gallery', () => tr('Gallery', '图库'), () => import('./gallery.js')],
  ['audit', () => tr('Changes', '变更记录'), () => import('./audit.js')],
];

const app = document.getElementById('app');
let session = {};
let leave = null;
let shown = 0;

async function start() {
  const link = /^#link=([0-9a-f]+)$/.exec(location.hash)?.[1];
  // The secret of the link is taken out of the address and of the history.
  if (link) history.replaceState(null, '', location.pathname + location.search);
  try {
    session = await api('admin/session');
    if (!session.logged_in && link) {
      try {
        await post('admin/session', { link });
        session = await api('admin/session');
      } catch (error) {
        return log_in(error.status === 401
          ? new Fault(401, tr('This link was used before. Start the server again for a new one, or set ADMIN_SECRET_KEY.', '此链接已被使用。请重启服务器获取新链接，或设置 ADMIN_SECRET_KEY。'))
          : error);
      }
    }
  } catch (error) {
    fill(app, h('main', { class: 'login' }, h('div', { class: 'card' }, fault(error, start))));
    return undefined;
  }
  set_csrf(session.csrf);
  return session.logged_in ? frame() : log_in();
}

function log_in(error) {
  leave?.(); leave = null; stop_events();
  document.dispatchEvent(new CustomEvent('left'));
  const key = h('input', { type: 'password', autocomplete: 'current-password', name: 'key', required: true });
  const trouble = h('div', {}, error ? fault(error) : null);
  const form = h('form', { class: 'stack' },
    field(tr('Admin key', '管理密钥'), key, tr('ADMIN_SECRET_KEY of the server. It was printed at the first start if you did not set one.', '服务器的 ADMIN_SECRET_KEY。若未设置，首次启动时会打印一个。')),
    h('button', { type: 'submit', class: 'button primary wide' }, tr('Log in', '登录')));
  form.addEventListener('submit', async (event) => {
    event.preventDefault();
    fill(trouble);
    try {
      const opened = await post('admin/session', { key: key.value.trim() });
      set_csrf(opened.csrf);
      session = await api('admin/session');
      frame();
    } catch (failure) {
      key.select();
      fill(trouble, fault(failure.status === 401 ? new Fault(401, tr('This is not the admin key.', '管理密钥不正确。')) : failure));
    }
  });
  const keyless = h('div', { class: 'stack' },
    h('p', { class: 'muted' }, tr('This server has no admin key. Open the link that it printed at its start, or set ADMIN_SECRET_KEY and start it again.', '此服务器没有管理密钥。请打开启动时打印的链接，或设置 ADMIN_SECRET_KEY 后重启。')));
  document.title = `${tr('Log in', '登录')} · qwen-bridge`;
  fill(app, h('main', { class: 'login' }, h('div', { class: 'card' },
    h('img', { src: 'admin/assets/icon.svg', alt: '' }),
    h('div', {}, h('h1', {}, 'qwen-bridge'), h('p', { class: 'muted' }, tr("The owner's page", '管理页面'))),
    trouble, session.needs_key === false ? keyless : form, choices(log_in))));
  if (session.needs_key !== false) key.focus();
}

function choices(again) {
  return h('div', { class: 'row' },
    button(is_zh() ? 'English' : '中文', () => { set_language(is_zh() ? 'en' : 'zh'); again(); }, { kind: 'small quiet' }),
    h('button', { type: 'button', class: 'button small quiet', 'aria-label': tr('Light or dark', '浅色或深色'), title: tr('Light or dark', '浅色或深色'), onclick: toggle_theme }, icon('sun')));
}

function frame() {
  const brand = () => h('a', { class: 'brand', href: '#overview' }, h('img', { src: 'admin/assets/icon.svg', alt: '' }), 'qwen-bridge');
  const side = h('div', { class: 'side', id: 'side' }, brand(),
    h('nav', { 'aria-label': tr('Screens', '页面') }, SCREENS.map(([name, title]) => h('a', { href: `#${name}`, 'data-screen': name }, icon(name), title()))),
    h('div', { class: 'foot' },
      choices(() => frame()),
      button(tr('Log out', '退出登录'), async () => { try { await remove('admin/session'); } finally { session.logged_in = false; log_in(); } }, { kind: 'small quiet', icon: 'out' }),
      h('p', { class: 'version' }, `${tr('Version', '版本')} ${session.version ?? ''}`)));
  const open = (is_open) => { side.classList.toggle('open', is_open); menu.setAttribute('aria-expanded', String(is_open)); };
  const menu = h('button', { type: 'button', class: 'button quiet', 'aria-label': tr('Menu', '菜单'), 'aria-expanded': 'false', 'aria-controls': 'side', onclick: () => open(!side.classList.contains('open')) }, icon('menu'));
  const screen = h('main', { class: 'screen', id: 'screen', tabindex: '-1' });
  side.addEventListener('keydown', (event) => { if (event.key === 'Escape' && side.classList.contains('open')) { open(false); menu.focus(); } });
  menu.addEventListener('keydown', (event) => { if (event.key === 'Escape') open(false); });
  side.addEventListener('click', (event) => { if (event.target.closest('a')) open(false); });
  screen.addEventListener('click', () => open(false));
  const trouble = h('div', { id: 'trouble', role: 'status' });
  fill(app, h('a', { class: 'skip', href: '#screen', onclick: (event) => { event.preventDefault(); screen.focus(); } }, tr('Skip to the content', '跳到内容')),
    h('header', { class: 'top' }, brand(), menu), h('div', { class: 'frame' }, side, h('div', {}, trouble, screen)));
  show();
}

async function show() {
  const screen = document.getElementById('screen');
  if (!screen) return;
  const [name, ...rest] = decodeURIComponent(location.hash.slice(1)).split('/');
  const [id, title, load] = SCREENS.find(([known]) => known === name) ?? SCREENS[0];
  for (const link of document.querySelectorAll('[data-screen]')) {
    if (link.dataset.screen === id) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `${title()} · qwen-bridge`;
  leave?.(); leave = null;
  const mine = (shown += 1);
  fill(screen, loading());
  try {
    const module = await load();
    if (mine !== shown) return;
    const place = h('div', { class: 'stack' });
    fill(screen, place);
    const result = await module.show(place, { session, rest: rest.join('/') });
    if (mine === shown) leave = typeof result === 'function' ? result : null;
    else if (typeof result === 'function') result();
  } catch (error) {
    if (mine === shown) fill(screen, fault(error, () => show()));
  }
  if (mine === shown) { screen.dataset.ready = id; window.scrollTo(0, 0); performance.mark('usable'); }
}

addEventListener('hashchange', () => { if (session.logged_in) { show(); document.getElementById('screen')?.focus({ preventScroll: true }); } });
document.addEventListener('logged-out', () => { if (session.logged_in) { session.logged_in = false; log_in(new Fault(401, tr('Your session has ended. Log in again.', '会话已结束，请重新登录。'))); } });
document.addEventListener('lost', (event) => { const place = document.getElementById('trouble'); if (place) fill(place, event.detail ? h('p', {}, tr('The server cannot be reached. What is shown may be out of date; this page goes on when the server is back.', '无法连接服务器，显示的内容可能已过时；服务器恢复后页面会自动继续。')) : null); });
start();
