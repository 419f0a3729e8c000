// Requests to the server, with the token of the session, and the stream of events.
import { tr, both } from './dom.js';

/** Address of the server, with a slash at its end, also under a sub-path and behind a proxy. */
export const base = new URL('.', document.baseURI).href;
let csrf = '';
export const set_csrf = (value) => { csrf = value ?? ''; };
export const with_csrf = (headers = {}) => ({ ...headers, 'x-csrf-token': csrf });

export class Fault extends Error {
  constructor(status, message, body) { super(message); this.status = status; this.code = body?.error?.code; }
}

function words(status, body, path) {
  const error = body?.error;
  const zh = tr('', error?.message_zh ?? '');
  const said = zh || (typeof error === 'string' ? error : both(error?.message ?? body?.message));
  if (status === 404 && path.startsWith('admin/') && error?.code === 'unknown_url')
    return tr('This server does not offer this yet.', '此服务器尚未提供此功能。');
  if (is_over(status, body)) return tr('Your session has ended. Log in again.', '会话已结束，请重新登录。');
  if (status === 429 && !error?.code) return tr('Too many wrong keys. Wait a moment.', '错误的密钥过多，请稍候。');
  return said || tr(`The server answered with status ${status}.`, `服务器返回状态 ${status}。`);
}

/** Whether a refusal means that there is no session: 401, and 503 of a server without an admin key. */
const is_over = (status, body) => status === 401 || (status === 503 && typeof body?.error === 'string');

export async function api(path, { method = 'GET', body, signal, headers = {} } = {}) {
  let response;
  try {
    response = await fetch(base + path, {
      method, signal, credentials: 'same-origin',
      headers: with_csrf(body === undefined ? headers : { ...headers, 'content-type': 'application/json' }),
      body: body === undefined ? undefined : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Fault(0, tr('The server cannot be reached.', '无法连接服务器。'));
  }
  const text = await response.text();
  let json = null;
  try { json = text ? JSON.parse(text) : null; } catch { /* the status says enough */ }
  if (!response.ok) {
    if (is_over(response.status, json) && path !== 'admin/session') document.dispatchEvent(new CustomEvent('logged-out'));
    throw new Fault(response.status, words(response.status, json, path), json);
  }
  return json;
}
export const post = (path, body = {}) => api(path, { method: 'POST', body });
export const patch = (path, body, headers) => api(path, { method: 'PATCH', body, headers });
export const put = (path, body) => api(path, { method: 'PUT', body });
export const remove = (path) => api(path, { method: 'DELETE' });

// One stream of events for all screens. Where there is none, accounts and requests are read every few seconds.
const listeners = new Set();
let source, timer, is_lost = false;
export function listen(listener) {
  listeners.add(listener);
  begin();
  return () => { listeners.delete(listener); if (!listeners.size) stop_events(); };
}
function tell(name, data) { for (const listener of [...listeners]) listener(name, data); }
function begin() {
  if (source || timer) return;
  source = new EventSource(`${base}admin/events`);
  for (const name of ['accounts', 'request']) source.addEventListener(name, (event) => {
    try { tell(name, JSON.parse(event.data)); } catch { /* a torn event */ }
  });
  // The stream fell behind, so events are missing.
  source.addEventListener('missed', read);
  source.onopen = () => { if (is_lost) { lost(false); read(); } };
  source.onerror = () => {
    if (source && source.readyState === EventSource.CLOSED) { source = undefined; poll(); } else lost(true);
  };
}
async function read() {
  try {
    tell('accounts', await api('admin/accounts'));
    tell('requests', await api('admin/requests?limit=100'));
    lost(false);
  } catch (error) { if (error.status === 0) lost(true); }
}
function poll() {
  timer ??= setInterval(() => { if (!document.hidden) read(); }, 5000);
  read();
}
/** Notes whether the server cannot be reached, for the frame of the page. */
function lost(is) {
  if (is === is_lost) return;
  is_lost = is;
  document.dispatchEvent(new CustomEvent('lost', { detail: is }));
}
export function stop_events() { source?.close(); source = undefined; clearInterval(timer); timer = undefined; lost(false); }
