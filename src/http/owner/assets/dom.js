// Elements, languages, times and small parts that all screens share. Text goes into text nodes only.

const SVG = 'http://www.w3.org/2000/svg';

export function h(tag, props, ...children) {
  const is_svg = ['svg', 'path', 'circle', 'rect', 'line', 'g', 'text', 'title', 'polyline'].includes(tag) && props?.svg !== false;
  const element = is_svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === undefined || value === null || value === false || name === 'svg') continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value' || name === 'checked' || name === 'disabled' || name === 'open' || name === 'selected') element[name] = value;
    else if (name === 'width_percent') element.style.width = `${value}%`;
    else if (name === 'height_percent') element.style.height = `${value}%`;
    else if (name === 'color') element.style.setProperty('--color', value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  append(element, children);
  return element;
}

function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === undefined || child === null || child === false || child === '') continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** Runs `change`, which replaces `element` by what it returns, and gives the focus to the part of the same name. */
export function keeping_focus(element, change) {
  const focus = element.contains(document.activeElement) ? document.activeElement.dataset.focus : undefined;
  const fresh = change();
  if (focus) fresh.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
}
/** As `fill`, but the part that has the focus keeps it, and a wide table its place. */
export function refill(element, ...children) {
  const left = element.querySelector('.table-wrap')?.scrollLeft ?? 0;
  keeping_focus(element, () => fill(element, ...children));
  const wrap = left && element.querySelector('.table-wrap');
  if (wrap) wrap.scrollLeft = left;
}

// Languages: the browser's, until the reader chooses one.
const stored = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
const store = (name, value) => { try { value === null ? localStorage.removeItem(name) : localStorage.setItem(name, value); } catch { /* a private window */ } };
let language = stored('language') ?? (navigator.language?.toLowerCase().startsWith('zh') ? 'zh' : 'en');
document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
export const is_zh = () => language === 'zh';
export const tr = (en, zh) => (language === 'zh' ? zh : en);
export const both = (text) => (typeof text === 'string' ? text : text ? (text[language] ?? text.en ?? '') : '');
export function set_language(value) {
  language = value;
  store('language', value);
  document.documentElement.lang = value === 'zh' ? 'zh-CN' : 'en';
}

// Light and dark: the system's, until the reader chooses one.
export function apply_theme() {
  const theme = stored('theme');
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
}
export function toggle_theme() {
  const dark = document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: dark)').matches ? 'dark' : 'light');
  store('theme', dark === 'dark' ? 'light' : 'dark');
  apply_theme();
}
apply_theme();

// Numbers and times.
const locale = () => (language === 'zh' ? 'zh-CN' : 'en');
export const number = (value) => new Intl.NumberFormat(locale()).format(value ?? 0);
export const short = (value) => new Intl.NumberFormat(locale(), { notation: 'compact', maximumFractionDigits: 1 }).format(value ?? 0);
export const clock = (at) => new Date(at * 1000).toLocaleString(locale(), { dateStyle: 'medium', timeStyle: 'short' });
export const time_of_day = (ms) => new Date(ms).toLocaleTimeString(locale());
export function span(seconds) {
  const s = Math.max(0, Math.round(seconds));
  const [d, hours, m] = [Math.floor(s / 86400), Math.floor(s / 3600), Math.floor(s / 60)];
  if (d >= 2) return tr(`${d} days`, `${d} 天`);
  if (hours >= 1) return tr(`${hours} h ${m % 60} min`, `${hours} 小时 ${m % 60} 分`);
  if (m >= 1) return tr(`${m} min ${s % 60} s`, `${m} 分 ${s % 60} 秒`);
  return tr(`${s} s`, `${s} 秒`);
}
export function ago(at) {
  const passed = Date.now() / 1000 - at;
  return passed < 5 ? tr('just now', '刚刚') : tr(`${span(passed)} ago`, `${span(passed)}前`);
}
export const millis = (ms) => (ms == null ? '–' : ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

/** A countdown that goes on while it is in the page. */
export function countdown(until) {
  const element = h('span', { class: 'num', 'data-until': until }, span(until - Date.now() / 1000));
  return element;
}
setInterval(() => {
  for (const element of document.querySelectorAll('[data-until]')) {
    const left = element.dataset.until - Date.now() / 1000;
    const text = left > 0 ? span(left) : tr('now', '现在');
    if (element.textContent !== text) element.textContent = text;
  }
}, 1000);

const PATHS = {
  overview: 'M3 10.500 12 3l9 7.500M5 9v11h5v-6h4v6h5V9',
  accounts: 'M16 19c0-3-2.700-5-6-5s-6 2-6 5M10 11a3.500 3.500 0 1 0 0-7 3.500 3.500 0 0 0 0 7M16 4.500a3.500 3.500 0 0 1 0 6.500M17.500 14.500c1.800.7 3 2.300 3 4.500',
  playground: 'M4 5h16v11H9l-5 4zM8.500 9h7M8.500 12h4',
  live: 'M3 12h4l2.500-7 5 14 2.500-7h4',
  usage: 'M4 20V4M4 20h16M8 16v-4M12 16V8M16 16v-6',
  keys: 'M14.500 9.500a4 4 0 1 0-3.800 4l1.800 1.800h2V17h2v2h3v-3l-5-5z',
  models: 'M12 3l8 4.500v9L12 21l-8-4.500v-9zM4 7.500l8 4.500 8-4.500M12 12v9',
  settings: 'M4 7h9M17 7h3M4 17h3M11 17h9M15 4.500v5M9 14.500v5',
  gallery: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15 9.500h.01',
  audit: 'M7 3h10v18H7zM10 8h4M10 12h4M10 16h2',
  download: 'M12 4v11M7 11l5 5 5-5M4 20h16',
  copy: 'M9 9h11v11H9zM5 15H4V4h11v1',
  check: 'M5 12.500 10 17 19 7',
  sun: 'M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.500 1.500M17.500 17.500 19 19M19 5l-1.500 1.500M6.500 17.500 5 19',
  menu: 'M4 7h16M4 12h16M4 17h16',
  close: 'M6 6l12 12M18 6 6 18',
  out: 'M10 4H4v16h6M14 8l4 4-4 4M18 12H9',
  plus: 'M12 5v14M5 12h14',
  send: 'M5 12h14M13 6l6 6-6 6',
  file: 'M7 3h7l4 4v14H7zM14 3v4h4',
  stop: 'M7 7h10v10H7z',
  eye: 'M2.500 12C5 7.500 8.300 5.500 12 5.500s7 2 9.500 6.500c-2.500 4.500-5.800 6.500-9.500 6.500S5 16.500 2.500 12M12 9a3 3 0 1 0 0 6 3 3 0 0 0 0-6',
  think: 'M9 18h6M10 21h4M12 3a6 6 0 0 0-3.500 10.900V15h7v-1.100A6 6 0 0 0 12 3',
  search: 'M10.500 4a6.500 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13M15.500 15.500 20 20',
  video: 'M3 6h12v12H3zM15 10l6-3v10l-6-3',
  picture: 'M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4',
  tool: 'M14 6a4 4 0 0 0-5 5l-5.500 5.500 4 4L13 15a4 4 0 0 0 5-5l-2.500 2.500-3-.5-.5-3z',
  sound: 'M4 9v6h4l5 4V5L8 9zM16.500 9a4 4 0 0 1 0 6M19 6.500a8 8 0 0 1 0 11',
  link: 'M10 14a4 4 0 0 0 6 0l3-3a4 4 0 0 0-6-6l-1 1M14 10a4 4 0 0 0-6 0l-3 3a4 4 0 0 0 6 6l1-1',
  more: 'M5 12h.01M12 12h.01M19 12h.01',
};
export function icon(name, label) {
  return h('svg', { class: 'icon', viewBox: '0 0 24 24', 'aria-hidden': label ? undefined : 'true', role: label ? 'img' : undefined, 'aria-label': label },
    h('path', { d: PATHS[name] ?? PATHS.more }));
}

/** Gives the focus back to a button that was disabled, or to the one that has taken its place, or to its menu. */
function focus_again(element) {
  const found = element.isConnected ? element : document.querySelector(`[data-focus="${CSS.escape(element.dataset.focus)}"]`);
  found?.focus({ preventScroll: true });
  if (document.activeElement === document.body) found?.closest('details')?.querySelector('summary').focus({ preventScroll: true });
}

export function button(label, onclick, { kind = '', icon: picture, type = 'button', disabled, title } = {}) {
  const element = h('button', { type, class: `button ${kind}`, disabled, title }, picture && icon(picture), h('span', {}, label));
  if (onclick) element.addEventListener('click', async (event) => {
    const had_focus = document.activeElement === element;
    element.disabled = true;
    try { await onclick(event); } finally {
      element.disabled = false;
      if (had_focus && document.activeElement === document.body) focus_again(element);
    }
  });
  return element;
}

/** A button that unfolds further ones. Escape and a click elsewhere fold them. */
export function menu(focus, items) {
  const summary = h('summary', { class: 'button small', 'data-focus': focus }, tr('More', '更多'));
  const element = h('details', { class: 'menu' }, summary, h('div', { class: 'menu-items' }, items));
  element.addEventListener('keydown', (event) => { if (event.key === 'Escape' && element.open) { element.open = false; summary.focus(); } });
  return element;
}
document.addEventListener('click', (event) => {
  for (const open of document.querySelectorAll('details.menu[open]')) if (!open.contains(event.target)) open.open = false;
});

export async function copy(text, element) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Over plain http the browser offers the older way only.
    const area = h('textarea', { class: 'hidden-text', value: text });
    document.body.append(area);
    area.select();
    document.execCommand('copy');
    area.remove();
  }
  if (element) {
    element.classList.add('done');
    setTimeout(() => element.classList.remove('done'), 1500);
  }
  say(tr('Copied', '已复制'));
}
export function copy_button(text, label) {
  const element = h('button', { type: 'button', class: 'button small quiet', 'aria-label': label ?? tr('Copy', '复制'), title: label ?? tr('Copy', '复制') }, icon('copy'));
  element.addEventListener('click', () => copy(typeof text === 'function' ? text() : text, element));
  return element;
}
export const code_line = (text) => h('div', { class: 'code-line' }, h('code', {}, text), copy_button(text));
export const code_block = (text) => h('div', { class: 'code-block' }, h('pre', { tabindex: '0' }, h('code', {}, text)), copy_button(text));

/** A text with `names` in backquotes as code. */
export const rich = (text) => String(text ?? '').split('`').map((part, place) => (place % 2 ? h('code', {}, part) : part));
export const status = (kind, text) => h('span', { class: `status ${kind}` }, h('span', { class: 'dot', 'aria-hidden': 'true' }), text);
export const tag = (text, kind = '') => h('span', { class: `tag ${kind}` }, text);
export const empty = (title, text, ...actions) => h('div', { class: 'empty' }, h('h3', {}, title), h('p', {}, text), actions.length ? h('div', { class: 'row center' }, actions) : null);
export const loading = () => h('div', { class: 'loading', role: 'status' }, h('span', { class: 'sr' }, tr('Loading', '加载中')), h('div', { class: 'bar-loading' }));
export function fault(error, retry, label) {
  // A route that this version of the server does not have.
  if (error.code === 'unknown_url') return h('div', { class: 'empty' }, h('h3', {}, error.message), h('p', {}, tr('A newer version of qwen-bridge may have it.', '新版本的 qwen-bridge 可能会提供。')));
  return h('div', { class: 'notice bad', role: 'alert' }, h('p', {}, error.message ?? String(error)), retry ? button(label ?? tr('Try again', '重试'), retry, { kind: 'small' }) : null);
}
export function notice(kind, ...children) { return h('div', { class: `notice ${kind}`, role: kind === 'bad' ? 'alert' : 'status' }, children); }
export const head = (title, text, ...actions) => h('header', { class: 'head' }, h('div', {}, h('h1', {}, title), text ? h('p', {}, text) : null), h('div', { class: 'row' }, actions));
export const card = (title, ...children) => h('section', { class: 'card' }, title ? h('h2', {}, title) : null, children);
export function field(label, input, hint) {
  input.id ||= `f${Math.random().toString(36).slice(2)}`;
  return h('div', { class: 'field' }, h('label', { for: input.id }, label), input, hint ? h('p', { class: 'hint' }, hint) : null);
}
let switches = 0;
export function toggle(label, checked, onchange, { hide_label = false } = {}) {
  const id = `switch${(switches += 1)}`;
  const input = h('input', { type: 'checkbox', role: 'switch', id, checked });
  input.addEventListener('change', () => onchange(input.checked, input));
  return h('span', { class: 'switch' }, input, h('label', { for: id, class: hide_label ? 'sr' : '' }, label));
}
export function table(columns, rows, { caption } = {}) {
  return h('div', { class: 'table-wrap', tabindex: '0', role: 'region', 'aria-label': caption }, h('table', {},
    caption ? h('caption', { class: 'sr' }, caption) : null,
    h('thead', {}, h('tr', {}, columns.map((column) => h('th', { scope: 'col', class: column.num ? 'num' : '' }, column.title)))),
    h('tbody', {}, rows)));
}

// Short messages at the edge of the window, which screen readers read out.
let place;
export function say(text, kind = '') {
  if (!place) { place = h('div', { class: 'toasts', role: 'status', 'aria-live': 'polite' }); document.body.append(place); }
  const toast = h('div', { class: `toast ${kind}` }, text);
  place.append(toast);
  setTimeout(() => toast.remove(), kind === 'bad' || text.length > 60 ? 8000 : 3000);
}

/** A dialog. `build` gets a function that closes it with a result; the promise gives that, or undefined. */
export function dialog(title, build) {
  return new Promise((resolve) => {
    let result;
    const element = h('dialog', { 'aria-label': title });
    const close = (value) => { result = value; element.close(); };
    append(element, [h('div', { class: 'dialog-head' }, h('h2', {}, title), h('button', { type: 'button', class: 'button small quiet', 'aria-label': tr('Close', '关闭'), onclick: () => close() }, icon('close'))), build(close)]);
    element.addEventListener('close', () => { element.remove(); resolve(result); });
    // A click beside a dialog closes it, unless something would be lost by that.
    element.addEventListener('click', (event) => { if (event.target === element && !element.querySelector('form, .code-line')) close(); });
    document.body.append(element);
    element.showModal();
    element.querySelector('form input, form select, form textarea')?.focus();
  });
}
export function ask(title, text, action, kind = 'danger') {
  return dialog(title, (close) => [h('p', {}, text), h('div', { class: 'row end' }, button(tr('Cancel', '取消'), () => close(false)), button(action, () => close(true), { kind }))]);
}
